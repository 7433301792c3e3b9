"""The deferrable example on a real Airflow: twenty waits in one triggerer at once, and one that fails."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_speechsense.api.models import Algorithm
from airflow_provider_speechsense.emulator import Emulator, EmulatorSettings, TalkFault
from tests.standalone.harness import DagRun, Standalone

EXAMPLES = Path(__file__).parents[2] / "example_dags"
DAG_ID = "speechsense_deferrable"
TALKS = 20
#: Seconds for a run, several times what it takes.
PATIENCE = 120
#: How long the analysis of a talk takes, in seconds: longer than any test, unless time is moved on.
ANALYSIS = 7200.0

pytestmark = [pytest.mark.standalone, pytest.mark.timeout(300)]


class EmulatorProcess:
    """An emulator in a process of its own, whose analysis does not end until it is told to.

    So it is certain that all waits are deferred at the same time, however slowly Airflow gets there.
    """

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self.port: int = pipe.recv()

    def finish(self) -> None:
        self._order("advance", ANALYSIS)

    def script(self, fault: TalkFault) -> None:
        self._order("script", fault)

    def _order(self, *order: Any) -> None:
        self._pipe.send(order)
        self._pipe.recv()


class Clock:
    """The real time and what was added to it; a clock that stands would never end a quota's window."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self._ahead

    def advance(self, seconds: float) -> None:
        self._ahead += seconds


def serve(pipe: Connection) -> None:
    clock = Clock()
    with Emulator(EmulatorSettings(clock=clock, processing_seconds=ANALYSIS - 1)) as emulator:
        pipe.send(emulator.port)
        orders = {"advance": clock.advance, "script": emulator.script}
        for name, argument in iter(pipe.recv, None):
            orders[name](argument)
            pipe.send(None)


@contextlib.contextmanager
def emulator_process() -> Iterator[EmulatorProcess]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    # Without it, nobody would notice that the process ended.
    theirs.close()
    try:
        yield EmulatorProcess(ours)
    finally:
        with contextlib.suppress(OSError):
            ours.send(None)
        process.join(10)
        process.kill()


def run_and_release(
    airflow: Standalone, emulator: EmulatorProcess, conf: dict[str, Any], waits: int
) -> DagRun:
    """Run the DAG; when all its waits are deferred, let SpeechSense finish its work."""
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(airflow.run_dag, DAG_ID, conf=conf, timeout=PATIENCE)
        deferred = 0
        while deferred < waits and not running.done():
            time.sleep(0.25)
            [(deferred,)] = airflow.rows(
                "SELECT count(*) FROM task_instance WHERE task_id = 'wait' AND state = 'deferred'"
            )
        emulator.finish()
        run = running.result()
    assert deferred == waits, run.report()
    return run


def test_twenty_deferred_waits_at_once_and_one_that_fails(tmp_path: Path) -> None:
    dags = tmp_path / "dags"
    dags.mkdir()
    shutil.copy(EXAMPLES / f"{DAG_ID}.py", dags)
    conf = {
        "audio": str(EXAMPLES / "data" / "call.mp3"),
        "metadata": str(EXAMPLES / "data" / "call.json"),
        "output_folder": str(tmp_path / "out"),
    }
    with emulator_process() as emulator:
        connection = {
            "conn_type": "speechsense",
            "host": "127.0.0.1",
            "port": emulator.port,
            "password": "emulator-key",
            "extra": {"tls": False},
        }
        with Standalone(dags, env={"AIRFLOW_CONN_SPEECHSENSE_DEFAULT": json.dumps(connection)}) as airflow:
            run = run_and_release(airflow, emulator, conf | {"calls": TALKS}, TALKS)
            assert run.state == "success", run.report()

            emulator.script(TalkFault(algorithm=Algorithm.SPEECHKIT, message="the recording is silent"))
            broken = run_and_release(airflow, emulator, conf | {"calls": 2}, 2)
            [(failed,)] = airflow.rows(
                "SELECT map_index FROM task_instance WHERE task_id = 'wait' AND state = 'failed'"
            )
            log = "\n".join(
                path.read_text()
                for path in airflow.home.glob(f"logs/**/task_id=wait/map_index={failed}/*.log*")
            )

    assert [run.tasks["wait", number] for number in range(TALKS)] == ["success"] * TALKS
    (written,) = (tmp_path / "out").glob("*/calls.json")
    talks = json.loads(written.read_text())
    assert len({talk["id"] for talk in talks}) == TALKS
    assert {talk["talk_state"]["processing_state"] for talk in talks} == {"PROCESSING_STATE_SUCCESS"}

    assert broken.state == "failed"
    states = {"wait": sorted(str(broken.tasks["wait", number]) for number in range(2))}
    assert states == {"wait": ["failed", "success"]}
    assert broken.tasks["get", -1] == "upstream_failed"
    # The thread that looked wrote into the log of the task for which it did.
    assert "Talk aud" in log
    assert "could not analyse 1 of 1 talks: aud" in log
    assert "failed in SPEECHKIT: " in log
    assert "INTERNAL the recording is silent" in log
