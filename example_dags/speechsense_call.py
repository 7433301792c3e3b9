"""One call: upload the recording, wait until SpeechSense has analysed it, write the results to a file."""

from __future__ import annotations

from pathlib import Path

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_speechsense.operators.talks import SpeechSenseGetOperator
from airflow_provider_speechsense.operators.upload import SpeechSenseUploadOperator
from airflow_provider_speechsense.sensors.speechsense import SpeechSenseTalkSensor

DATA = Path(__file__).parent / "data"

with DAG(
    dag_id="speechsense_call",
    schedule=None,
    catchup=False,
    params={
        "audio": str(DATA / "call.wav"),
        "metadata": str(DATA / "call.json"),
        "connection_id": "eag0calls",
        "output_folder": "/tmp/speechsense",  # noqa: S108
    },
    tags=["speechsense", "example"],
    doc_md=__doc__,
):
    upload = SpeechSenseUploadOperator(
        task_id="upload",
        audio="{{ params.audio }}",
        metadata="{{ params.metadata }}",
        connection_id="{{ params.connection_id }}",
    )
    wait = SpeechSenseTalkSensor(
        task_id="wait",
        talk_ids=upload.output,
        poke_interval=5,
        timeout=3600,
        # In the triggerer: no worker is held while SpeechSense works.
        deferrable=True,
    )
    SpeechSenseGetOperator(
        task_id="get",
        talk_ids=wait.output,
        # By run: a second run does not overwrite the first one's results.
        output_uri="{{ params.output_folder }}/{{ run_id }}/call.json",
    )
