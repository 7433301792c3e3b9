"""A badge: one long recording of a working day, which SpeechSense cuts into talks and analyses."""

from __future__ import annotations

from pathlib import Path

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_speechsense.operators.talks import SpeechSenseGetOperator
from airflow_provider_speechsense.operators.upload import SpeechSenseBadgeOperator
from airflow_provider_speechsense.sensors.speechsense import SpeechSenseBadgeSensor

DATA = Path(__file__).parent / "data"

with DAG(
    dag_id="speechsense_badge",
    schedule=None,
    catchup=False,
    params={
        "audio": str(DATA / "badge.wav"),
        "metadata": str(DATA / "badge.json"),
        "connection_id": "eag0badges",
        "output_folder": "/tmp/speechsense",  # noqa: S108
    },
    tags=["speechsense", "example"],
    doc_md=__doc__,
):
    upload = SpeechSenseBadgeOperator(
        task_id="upload",
        audio="{{ params.audio }}",
        metadata="{{ params.metadata }}",
        connection_id="{{ params.connection_id }}",
    )
    # First for the operation that cuts the recording, then for the talks it made.
    wait = SpeechSenseBadgeSensor(
        task_id="wait", operation_id=upload.output, poke_interval=5, timeout=6 * 3600, deferrable=True
    )
    SpeechSenseGetOperator(
        task_id="get",
        talk_ids=wait.output,
        output_uri="{{ params.output_folder }}/{{ run_id }}/badge.json",
    )
