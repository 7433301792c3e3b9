"""Many calls: one task uploads them with the hook, a deferred wait for each of them costs no worker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_speechsense.hooks.speechsense import SpeechSenseHook
from airflow_provider_speechsense.operators.talks import SpeechSenseGetOperator
from airflow_provider_speechsense.sensors.speechsense import SpeechSenseTalkSensor

DATA = Path(__file__).parent / "data"

with DAG(
    dag_id="speechsense_deferrable",
    schedule=None,
    catchup=False,
    params={
        "calls": 3,
        "audio": str(DATA / "call.mp3"),
        "metadata": str(DATA / "call.json"),
        "connection_id": "eag0calls",
        "output_folder": "/tmp/speechsense",  # noqa: S108
    },
    tags=["speechsense", "example"],
    doc_md=__doc__,
):

    @task
    def upload(params: Any = None) -> list[str]:
        """Upload the recording as many times as there are calls: stands in for a loop over your own."""
        metadata = json.loads(Path(params["metadata"]).read_text())
        with SpeechSenseHook().get_conn() as client:
            return [
                client.upload(
                    params["audio"],
                    # By this value a talk is found again, should a retry have uploaded it twice.
                    {**metadata, "ticket_id": str(number)},
                    connection_id=params["connection_id"],
                )
                for number in range(params["calls"])
            ]

    wait = SpeechSenseTalkSensor.partial(
        task_id="wait",
        poke_interval=5,
        timeout=3600,
        # In the triggerer, which holds thousands of waits. One sensor would take all the ids, too, and ask
        # for a hundred of them in a call; here each talk has a task of its own, with its own log and retries.
        deferrable=True,
    ).expand(talk_ids=upload())
    SpeechSenseGetOperator(
        task_id="get",
        talk_ids=wait.output,
        output_uri="{{ params.output_folder }}/{{ run_id }}/calls.json",
    )
