"""Each example DAG runs to its end on the emulator, in an Airflow of its own, and its results are right."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_speechsense.api import ApiKey, ClientSettings, SpeechSenseClient
from airflow_provider_speechsense.emulator import Emulator, EmulatorSettings

EXAMPLES = Path(__file__).parents[2] / "example_dags"
CALL = json.loads((EXAMPLES / "data" / "call.json").read_text())
CHAT = json.loads((EXAMPLES / "data" / "chat.json").read_text())
AIRFLOW_2 = version("apache-airflow").startswith("2.")
#: Seconds for one run, ten times what it takes.
PATIENCE = 100


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a database."""
    home = tmp_path_factory.mktemp("airflow")
    done = subprocess.run(
        [sys.executable, "-m", "airflow", "db", "migrate"],
        env={**os.environ, "AIRFLOW_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout.decode()
    return home


@dataclass
class Example:
    """Runs examples against an emulator."""

    emulator: Emulator
    home: Path
    output: Path

    def run(self, dag_id: str, *date: str, **conf: Any) -> dict[str, str]:
        """Run a DAG, for a logical date perhaps; return the states of its tasks."""
        command = [sys.executable, "-m", "airflow", "dags", "test", dag_id, *date, "--conf", json.dumps(conf)]
        return self._run(command)

    def run_without_logical_date(self, dag_id: str, **conf: Any) -> dict[str, str]:
        """Run a DAG as an asset or a click starts it in Airflow 3; return the states of its tasks."""
        # The command line has no way to say this.
        program = (
            "import json, sys; from airflow.dag_processing.dagbag import DagBag;"
            "dag = DagBag(sys.argv[1]).dags[sys.argv[2]];"
            "run = dag.test(logical_date=None, run_conf=json.loads(sys.argv[3]));"
            "sys.exit(run.state != 'success')"
        )
        path = str(EXAMPLES / f"{dag_id}.py")
        return self._run([sys.executable, "-c", program, path, dag_id, json.dumps(conf)])

    def _run(self, command: list[str]) -> dict[str, str]:
        connection = {
            "conn_type": "speechsense",
            "host": "127.0.0.1",
            "port": self.emulator.port,
            "password": self.emulator.api_key,
            "extra": {"tls": False},
        }
        env = {
            **os.environ,
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW_CONN_SPEECHSENSE_DEFAULT": json.dumps(connection),
        }
        done = subprocess.run(
            command,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stdout.decode()
        rows = self._last_run("SELECT task_id, state FROM task_instance", "task_id, map_index")
        return dict(rows)

    def returned(self, task_id: str) -> Any:
        """Return what a task of the last run returned."""
        rows = self._last_run("SELECT task_id, value FROM xcom", "map_index", "AND key = 'return_value'")
        return json.loads(dict(rows)[task_id])

    def written(self) -> tuple[Path, list[dict[str, Any]]]:
        """Return the one file that was written, and the talks in it."""
        (path,) = self.output.rglob("*.json")
        return path, json.loads(path.read_text())

    def _last_run(self, select: str, order: str, condition: str = "") -> list[tuple[Any, ...]]:
        last = "(SELECT run_id FROM dag_run ORDER BY id DESC LIMIT 1)"
        with contextlib.closing(sqlite3.connect(self.home / "airflow.db")) as db:
            return db.execute(f"{select} WHERE run_id = {last} {condition} ORDER BY {order}").fetchall()


def start(home: Path, output: Path, **settings: Any) -> Iterator[Example]:
    with Emulator(EmulatorSettings(**settings)) as emulator:
        yield Example(emulator, home, output)


@pytest.fixture
def example(home: Path, tmp_path: Path) -> Iterator[Example]:
    """With a service that is not done at the first look, and is at the second, five seconds later."""
    yield from start(home, tmp_path, queue_seconds=3.0, processing_seconds=1.0, badge_seconds=4.0)


@pytest.fixture
def quick_example(home: Path, tmp_path: Path) -> Iterator[Example]:
    """With a service that is done at once."""
    yield from start(home, tmp_path, queue_seconds=0.0, processing_seconds=0.0)


def test_every_example_is_tested() -> None:
    tested = {"call", "stream", "chat", "badge", "nightly", "deferrable"}
    assert {path.stem for path in EXAMPLES.glob("speechsense_*.py")} == {f"speechsense_{n}" for n in tested}


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("speechsense_*.py")), ids=lambda path: path.stem)
def test_an_example_is_named_like_its_file_and_tells_what_it_shows(path: Path) -> None:
    if AIRFLOW_2:
        from airflow.models.dagbag import DagBag
    else:
        from airflow.dag_processing.dagbag import DagBag
    bag = DagBag(path)
    assert bag.import_errors == {}
    (dag,) = bag.dags.values()
    assert dag.dag_id == path.stem
    assert dag.doc_md
    assert dag.catchup is False


def test_one_call_is_uploaded_awaited_in_the_triggerer_and_written_to_a_file(example: Example) -> None:
    states = example.run("speechsense_call", output_folder=str(example.output))
    assert states == {"upload": "success", "wait": "success", "get": "success"}
    path, (talk,) = example.written()
    assert path.parent.parent == example.output, "a folder for each run"
    assert talk["id"] == example.returned("upload")
    assert talk["talk_state"]["processing_state"] == "PROCESSING_STATE_SUCCESS"
    assert {field["name"]: field["value"] for field in talk["talk_fields"]} == CALL
    assert talk["connection_id"] == "eag0calls"
    assert example.returned("get") == {"output_uri": str(path), "output_format": "json", "talks": 1}
    methods = [call.method for call in example.emulator.calls]
    assert methods == ["TalkService/Upload"] + ["TalkService/Get"] * 3


def test_a_long_recording_is_streamed_and_its_transcript_awaited_by_rescheduling(example: Example) -> None:
    states = example.run("speechsense_stream")
    assert states == {"stream": "success", "wait": "success"}
    (talk,) = example.emulator.talks
    assert example.emulator.audio(talk.id) == (EXAMPLES / "data" / "call.mp3").read_bytes()
    assert example.returned("wait") == [talk.id]
    methods = [call.method for call in example.emulator.calls]
    assert methods == ["TalkService/UploadAsStream"] + ["TalkService/Get"] * 2


def test_a_chat_from_another_task_is_uploaded_and_its_tags_returned(quick_example: Example) -> None:
    states = quick_example.run("speechsense_chat")
    assert set(states) == {"export", "upload", "wait", "get"}
    assert set(states.values()) == {"success"}
    (talk,) = quick_example.returned("get")
    (uploaded,) = quick_example.emulator.talks
    assert talk["id"] == uploaded.id
    texts = [phrase["phrase"]["text"] for phrase in talk["transcription"]["phrases"]]
    assert texts == [message["text"] for message in CHAT["messages"]]


def test_a_badge_is_cut_and_its_talks_are_written_to_a_file(example: Example) -> None:
    states = example.run("speechsense_badge", output_folder=str(example.output))
    assert states == {"upload": "success", "wait": "success", "get": "success"}
    _, talks = example.written()
    assert [talk["id"] for talk in talks] == [talk.id for talk in example.emulator.talks]
    assert len(talks) == 3
    assert {talk["talk_state"]["processing_state"] for talk in talks} == {"PROCESSING_STATE_SUCCESS"}


def test_many_calls_are_awaited_each_for_itself(example: Example) -> None:
    states = example.run("speechsense_deferrable", calls=2, output_folder=str(example.output))
    assert states == {"upload": "success", "wait": "success", "get": "success"}
    _, talks = example.written()
    assert [talk["id"] for talk in talks] == example.returned("upload")
    tickets = [f["value"] for talk in talks for f in talk["talk_fields"] if f["name"] == "ticket_id"]
    assert tickets == ["0", "1"]


# --- the nightly run


def upload_on(emulator: Emulator, *dates: str) -> list[str]:
    """Upload a chat for each date."""
    settings = ClientSettings(endpoint=emulator.address, credentials=ApiKey(emulator.api_key), tls=None)
    with SpeechSenseClient(settings) as client:
        return [
            client.upload_text(
                CHAT["messages"], {**CHAT["metadata"], "date": date}, connection_id="eag0chats"
            )
            for date in dates
        ]


def test_a_night_fetches_the_talks_of_the_day_before_and_a_second_run_replaces_its_file(
    quick_example: Example,
) -> None:
    _, first, last, _ = upload_on(
        quick_example.emulator,
        "2026-03-11T23:59:59Z",
        "2026-03-12T00:00:00Z",
        "2026-03-13T02:59:59+03:00",
        "2026-03-13T00:00:00Z",
    )
    for _ in range(2):
        states = quick_example.run(
            "speechsense_nightly", "2026-03-13T03:00:00+00:00", output_folder=str(quick_example.output)
        )
        assert set(states.values()) == {"success"}
        path, talks = quick_example.written()
        assert path == quick_example.output / "2026-03-12.json"
        assert {talk["id"] for talk in talks} == {first, last}


def test_a_night_without_talks_is_skipped(quick_example: Example) -> None:
    upload_on(quick_example.emulator, "2026-03-12T12:00:00Z")
    states = quick_example.run(
        "speechsense_nightly", "2026-07-01T03:00:00+00:00", output_folder=str(quick_example.output)
    )
    assert (states["search"], states["wait"], states["get"]) == ("success", "skipped", "skipped")
    assert list(quick_example.output.iterdir()) == []


@pytest.mark.skipif(AIRFLOW_2, reason="in Airflow 2 every run has a logical date")
def test_a_night_started_without_a_logical_date_takes_the_day_before_it_was_due(
    quick_example: Example,
) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    (talk_id,) = upload_on(quick_example.emulator, yesterday.strftime("%Y-%m-%dT12:00:00Z"))
    states = quick_example.run_without_logical_date(
        "speechsense_nightly", output_folder=str(quick_example.output)
    )
    assert set(states.values()) == {"success"}
    path, (talk,) = quick_example.written()
    assert path.stem == yesterday.date().isoformat()
    assert talk["id"] == talk_id
