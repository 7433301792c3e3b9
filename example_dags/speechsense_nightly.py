"""Every night: find the talks of the day that ended, wait until they are analysed, write them to a file."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_speechsense.operators.talks import SpeechSenseGetOperator, SpeechSenseSearchOperator
from airflow_provider_speechsense.sensors.speechsense import SpeechSenseTalkSensor

with DAG(
    dag_id="speechsense_nightly",
    schedule="0 3 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    params={"output_folder": "/tmp/speechsense"},  # noqa: S108
    tags=["speechsense", "example"],
    doc_md=__doc__,
):

    @task(multiple_outputs=True)
    def day(data_interval_end: datetime | None = None, dag_run: Any = None) -> dict[str, str]:
        """Return the bounds of the day before this run, the same ones when the run is repeated."""
        # A run started by hand or by an asset has no data interval in Airflow 3, but says when it was due.
        due = data_interval_end or dag_run.run_after
        end = due.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return {
            "start": (end - timedelta(days=1)).isoformat(),
            "end": end.isoformat(),
            "name": (end - timedelta(days=1)).date().isoformat(),
        }

    bounds = day()
    search = SpeechSenseSearchOperator(
        task_id="search",
        filters=[
            {
                "key": "userMeta.date",
                "date_range": {
                    "from_value": bounds["start"],
                    "to_value": bounds["end"],
                    "bounds_inclusive": {"from_inclusive": True},
                },
            }
        ],
    )

    @task.short_circuit
    def any_talks(talk_ids: list[str]) -> bool:
        """Skip the rest when nobody called."""
        return bool(talk_ids)

    wait = SpeechSenseTalkSensor(
        task_id="wait", talk_ids=search.output, poke_interval=300, timeout=6 * 3600, deferrable=True
    )
    get = SpeechSenseGetOperator(
        task_id="get",
        talk_ids=wait.output,
        # By day, not by run: a repeated run replaces the file instead of adding a second one.
        output_uri=f"{{{{ params.output_folder }}}}/{bounds['name']}.json",
    )
    any_talks(search.output) >> wait
