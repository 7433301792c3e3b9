"""A long recording, streamed from object storage: constant memory, whatever its length."""

from __future__ import annotations

from pathlib import Path

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_speechsense.operators.upload import SpeechSenseStreamOperator
from airflow_provider_speechsense.sensors.speechsense import SpeechSenseTalkSensor

DATA = Path(__file__).parent / "data"

with DAG(
    dag_id="speechsense_stream",
    schedule=None,
    catchup=False,
    params={
        # For S3 or Yandex Object Storage: "s3://my_aws_connection@bucket/calls/long.mp3".
        "audio": f"file://{DATA}/call.mp3",
        "metadata": f"file://{DATA}/call.json",
        "connection_id": "eag0calls",
    },
    tags=["speechsense", "example"],
    doc_md=__doc__,
):
    stream = SpeechSenseStreamOperator(
        task_id="stream",
        audio="{{ params.audio }}",
        metadata="{{ params.metadata }}",
        connection_id="{{ params.connection_id }}",
    )
    SpeechSenseTalkSensor(
        task_id="wait",
        talk_ids=stream.output,
        # The transcript is enough here: do not wait for the other algorithms.
        wait_for=["SPEECHKIT"],
        poke_interval=5,
        timeout=6 * 3600,
        mode="reschedule",
    )
