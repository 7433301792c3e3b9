"""A real ``airflow standalone`` for one test: scheduler, triggerer, database, on Airflow 2.11 and 3.

    with Standalone(DAGS, env={"AIRFLOW_CONN_SPEECHSENSE_DEFAULT": json}) as airflow:
        run = airflow.run_dag("waits", timeout=120)
    assert run.state == "success", run.report()
    assert run.tasks[("wait", 7)] == "success"

Inline runs (``airflow dags test``) never meet the triggerer's event loop, the encryption of trigger
arguments or the way from a task process to the database, and that is where deferral breaks.

The Airflow of the running interpreter is used. It lives in a temporary home, on free ports, in a session of
its own, of which nothing is left afterwards. Every wait has an end. Mark the test
``@pytest.mark.standalone`` and ``@pytest.mark.timeout(300)``.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import psutil  # Airflow brings it

T = TypeVar("T")

#: As Airflow writes it when the components are up.
READY = b"Airflow is ready"
#: No state follows these.
FINAL_RUN_STATES = frozenset({"success", "failed"})
POLL_INTERVAL = 0.25
#: What a killed Airflow gets to end by itself, in seconds.
STOP_TIMEOUT = 10.0
LOG_TAIL = 6000


class StandaloneError(AssertionError):
    """Airflow did not do what the harness waited for; the message holds its logs."""


@dataclass(frozen=True)
class DagRun:
    """What became of one run: its state, and that of each task by ``(task_id, map_index)``."""

    state: str
    tasks: dict[tuple[str, int], str | None]
    seconds: float
    logs: Callable[[], str]

    def report(self) -> str:
        """Return the states and the logs of all that did not succeed, for an assertion's message."""
        states = "\n".join(f"  {task}[{index}]: {state}" for (task, index), state in self.tasks.items())
        return f"run {self.state} after {self.seconds:.1f} s\n{states}\n{self.logs()}"


class Standalone:
    """A context manager that starts Airflow and stops all of it.

    :param dags_folder: the only place where this Airflow looks for DAGs
    :param env: added to its environment, over the harness's own settings
    :param start_timeout: seconds until it must be ready
    """

    def __init__(
        self, dags_folder: Path, env: Mapping[str, str] | None = None, *, start_timeout: float = 150.0
    ) -> None:
        self.dags_folder = dags_folder
        self._extra_env = dict(env or {})
        self._start_timeout = start_timeout
        self._process: subprocess.Popen[bytes] | None = None
        self.home = Path()

    def __enter__(self) -> Standalone:
        # Short, because multiprocessing puts sockets below it, whose paths end at 107 bytes.
        self.home = Path(tempfile.mkdtemp(prefix="af-"))
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    @property
    def log_file(self) -> Path:
        """What all components wrote to their terminal."""
        return self.home / "standalone.log"

    def run_dag(self, dag_id: str, *, conf: Mapping[str, Any] | None = None, timeout: float) -> DagRun:
        """Trigger the DAG, wait for the run's end and return it, whatever its state.

        :param conf: the run's configuration, JSON
        :param timeout: seconds for all of it
        :raises StandaloneError: the DAG does not load, or the run does not end in time
        """
        end = time.monotonic() + timeout
        self.wait_for_dag(dag_id, timeout=timeout)
        run_id = f"run-{uuid.uuid4().hex[:8]}"
        command = ["dags", "trigger", dag_id, "--run-id", run_id]
        started = time.monotonic()
        self.cli(*command, *(["--conf", json.dumps(conf)] if conf else []), timeout=end - started)
        where = ("dag_id = ? AND run_id = ?", (dag_id, run_id))

        def ended() -> str | None:
            [(state,)] = self.rows(f"SELECT state FROM dag_run WHERE {where[0]}", *where[1])
            return state if state in FINAL_RUN_STATES else None

        def states() -> dict[tuple[str, int], str | None]:
            sql = f"SELECT task_id, map_index, state FROM task_instance WHERE {where[0]} ORDER BY 1, 2"
            return {(task, index): state for task, index, state in self.rows(sql, *where[1])}

        state = self._wait(ended, end, lambda: f"the end of {dag_id}/{run_id}, whose tasks are {states()}")
        tasks, seconds = states(), time.monotonic() - started
        # Read now: the home is gone when an assertion after the with block asks.
        logs = "" if state == "success" else self.logs(dag_id, run_id)
        return DagRun(state, tasks, seconds, lambda: logs)

    def wait_for_dag(self, dag_id: str, *, timeout: float) -> None:
        """Return when the DAG can be triggered.

        :raises StandaloneError: it does not load, or not within ``timeout`` seconds
        """

        def loaded() -> bool:
            for filename, stacktrace in self.rows("SELECT filename, stacktrace FROM import_error"):
                raise StandaloneError(f"{filename} does not load:\n{stacktrace}")
            return bool(self.rows("SELECT 1 FROM serialized_dag WHERE dag_id = ?", dag_id))

        self._wait(loaded, time.monotonic() + timeout, lambda: f"DAG {dag_id} to appear")

    def cli(self, *arguments: str, timeout: float) -> str:
        """Run ``airflow`` with these arguments in the same home and return what it printed."""
        done = subprocess.run(
            [self._airflow(), *arguments],
            env=self._env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
        )
        output = done.stdout.decode(errors="replace")
        if done.returncode:
            raise StandaloneError(f"airflow {' '.join(arguments)}: exit code {done.returncode}\n{output}")
        return output

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Read from Airflow's database; it can't be written this way."""
        read_only = f"{self._database.as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(read_only, uri=True, timeout=30)) as db:
            return db.execute(sql, values).fetchall()

    def logs(self, dag_id: str = "*", run_id: str = "*") -> str:
        """Return the last part of the logs: of the run's tasks, then of the components."""
        pattern = f"logs/dag_id={dag_id}/run_id={run_id}/**/*.log*"
        files = sorted(p for p in self.home.glob(pattern) if p.is_file())
        return "\n".join(
            f"---- {path.relative_to(self.home)}\n{_tail(path)}" for path in (*files[:10], self.log_file)
        )

    @property
    def _database(self) -> Path:
        return self.home / "airflow.db"

    @staticmethod
    def _airflow() -> str:
        return str(Path(sys.executable).with_name("airflow"))

    def _start(self) -> None:
        (self.home / "tmp").mkdir()
        # Readers and the one writer do not lock each other out in this mode, which the file keeps.
        with contextlib.closing(sqlite3.connect(self._database)) as db:
            db.execute("PRAGMA journal_mode=WAL")
        self._env = self._environment()
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [self._airflow(), "standalone"],
                env=self._env,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        end = time.monotonic() + self._start_timeout
        self._wait(lambda: READY in self.log_file.read_bytes(), end, lambda: repr(READY.decode()))

    def _environment(self) -> dict[str, str]:
        web, worker_logs, trigger_logs = _free_ports(3)
        ours = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW_", "_AIRFLOW_"))}
        ours |= {
            # Airflow starts its components as `airflow`.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "TMPDIR": str(self.home / "tmp"),
            "PYTHONUNBUFFERED": "1",
            "NO_COLOR": "1",
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self._database}?timeout=60",
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags_folder),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            # The default 32 processes at once would only get in each other's way.
            "AIRFLOW__CORE__PARALLELISM": "4",
            # 2.11 allows SQLite only the SequentialExecutor, which starts a new interpreter, several
            # seconds, for each half of each deferred task. In WAL mode the other works as well as in 3.
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "_AIRFLOW__SKIP_DATABASE_EXECUTOR_COMPATIBILITY_CHECK": "1",
            "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(worker_logs),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(trigger_logs),
        }
        if version("apache-airflow").startswith("2."):
            ours |= {
                "AIRFLOW__WEBSERVER__WEB_SERVER_HOST": "127.0.0.1",
                "AIRFLOW__WEBSERVER__WEB_SERVER_PORT": str(web),
                "AIRFLOW__WEBSERVER__WORKERS": "1",
            }
        else:
            ours |= {
                "AIRFLOW__API__HOST": "127.0.0.1",
                "AIRFLOW__API__PORT": str(web),
                "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{web}/execution/",
                "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            }
        return ours | self._extra_env

    def _wait(self, ready: Callable[[], T], end: float, what: Callable[[], str]) -> T:
        """Return the first true answer of ``ready``; fail with the logs at ``end``, or when Airflow ends."""
        assert self._process
        while True:
            if answer := ready():
                return answer
            code = self._process.poll()
            if code is not None:
                raise StandaloneError(f"Airflow ended with exit code {code}\n{self.logs()}")
            if time.monotonic() >= end:
                raise StandaloneError(f"waited too long for {what()}\n{self.logs()}")
            time.sleep(POLL_INTERVAL)

    def _stop(self) -> None:
        if self._process:
            # Airflow's own children move to process groups of their own, but stay in the session.
            session = self._process.pid
            for signum in (signal.SIGTERM, signal.SIGKILL):
                for pid in _session_members(session):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signum)
                end = time.monotonic() + STOP_TIMEOUT
                while time.monotonic() < end:
                    self._process.poll()  # reaps it, without which it stays a member
                    if not any(_session_members(session)):
                        break
                    time.sleep(POLL_INTERVAL)
        shutil.rmtree(self.home, ignore_errors=True)


def _session_members(session: int) -> Iterator[int]:
    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getsid(pid) == session:
                yield pid


def _free_ports(count: int) -> list[int]:
    # All are held until all are known, or the same could come twice.
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _tail(path: Path) -> str:
    text = path.read_bytes()[-LOG_TAIL:].decode(errors="replace")
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
