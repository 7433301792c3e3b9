"""A chat: its messages and metadata come from an earlier task, as they would from your helpdesk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_speechsense.operators.talks import SpeechSenseGetOperator
from airflow_provider_speechsense.operators.upload import SpeechSenseTextOperator
from airflow_provider_speechsense.sensors.speechsense import SpeechSenseTalkSensor

with DAG(
    dag_id="speechsense_chat",
    schedule=None,
    catchup=False,
    params={"chat": str(Path(__file__).parent / "data" / "chat.json"), "connection_id": "eag0chats"},
    tags=["speechsense", "example"],
    doc_md=__doc__,
):

    @task(multiple_outputs=True)
    def export(params: Any = None) -> Any:
        """Stand in for your own export: a dict with messages and metadata."""
        return json.loads(Path(params["chat"]).read_text())

    chat = export()
    upload = SpeechSenseTextOperator(
        task_id="upload",
        messages=chat["messages"],
        metadata=chat["metadata"],
        connection_id="{{ params.connection_id }}",
    )
    wait = SpeechSenseTalkSensor(task_id="wait", talk_ids=upload.output, poke_interval=5, timeout=3600)
    SpeechSenseGetOperator(
        task_id="get", talk_ids=wait.output, results_mask=["text_classifiers", "transcription"]
    )
