"""The one-call example from end to end: an emulator of SpeechSense, a real Airflow, and what was learnt.

Everything but the JSON it writes is gone when it ends. Run it with ``make demo``.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
#: Seconds for each step, several times what a slow machine needs.
PATIENCE = 150
#: A line of Airflow's log that this package wrote, and what it says.
OUR_LINE = re.compile(r"\S+ \[\w+ *\] (?P<message>.*?) +\[[\w.]*airflow_provider_speechsense")


def say(text: str) -> None:
    """Print a line with the time since the start."""
    print(f"[{time.monotonic() - STARTED:5.1f} s] {text}", flush=True)


STARTED = time.monotonic()


@contextmanager
def emulator(folder: Path) -> Iterator[str]:
    """Run the emulator in a process of its own; give its port."""
    port_file = folder / "port"
    command = [sys.executable, "-m", "airflow_provider_speechsense.emulator", "--port", "0"]
    with (folder / "emulator.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--port-file", port_file, "--processing-seconds", "4", "--api-key", "demo-key"],
            stdout=log,
            stderr=log,
        )
    try:
        give_up = time.monotonic() + PATIENCE
        while not (port_file.exists() and port_file.read_text()):
            if process.poll() is not None or time.monotonic() > give_up:
                sys.exit((folder / "emulator.log").read_text())
            time.sleep(0.05)
        yield port_file.read_text().strip()
    finally:
        process.terminate()
        process.wait(10)


def environment(home: Path, port: str) -> dict[str, str]:
    """Return the environment of an Airflow of its own, in ``home``."""
    connection = {
        "conn_type": "speechsense",
        "host": "127.0.0.1",
        "port": int(port),
        "password": "demo-key",
        # Plain text takes a secret to this machine only.
        "extra": {"tls": False},
    }
    return {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW_CONN_SPEECHSENSE_DEFAULT": json.dumps(connection),
        "AIRFLOW__CORE__DAGS_FOLDER": str(HERE),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
        "PYTHONWARNINGS": "ignore",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }


def airflow(*arguments: str, env: dict[str, str]) -> None:
    """Run an ``airflow`` command, showing what this package logs; end the demo if it fails."""
    command = [sys.executable, "-m", "airflow", *arguments]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines: list[str] = []
    for line in process.stdout or ():
        lines.append(line)
        if ours := OUR_LINE.match(line):
            say(f"  {ours['message']}")
    if process.wait(PATIENCE):
        sys.exit(f"{''.join(lines[-60:])}\n'airflow {' '.join(arguments)}' failed.")


def table(talk: dict[str, Any]) -> str:
    """Return what was learnt from the call as a table."""
    boundaries = talk["conversation_statistics"]["conversation_boundaries"]
    total = boundaries["end_time_ms"] - boundaries["start_time_ms"]
    rows = [("talk", talk["id"]), ("conversation", f"{total / 1000:.1f} s")]
    names = {"0": "operator", "1": "client"}
    interrupts = {
        entry["speaker_tag"]: entry.get("interrupts_count", 0)
        for entry in talk["interrupts_statistics"].get("speaker_interrupts", [])
    }
    for speaker in talk["conversation_statistics"]["speaker_statistics"]:
        tag, spoken = speaker["speaker_tag"], speaker["complete_statistics"]
        rows.append(
            (
                f"{names.get(tag, tag)} spoke",
                f"{spoken['total_speech_ms'] / 1000:.1f} s in {speaker['utterance_count']} utterances, "
                f"interruptions: {interrupts.get(tag, 0)}",
            )
        )
    both = talk["speech_statistics"].get("total_simultaneous_speech_duration_ms", 0)
    silent = talk["silence_statistics"].get("total_simultaneous_silence_duration_ms", 0)
    rows += [("both at once", f"{both / 1000:.1f} s"), ("both silent", f"{silent / 1000:.1f} s")]
    rows += [(field["name"], field.get("value", "")) for field in talk["talk_fields"]]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"  {name:<{width}}  {value}" for name, value in rows)


def main() -> None:
    """Run the demo."""
    output = Path(tempfile.mkdtemp(prefix="speechsense-demo-"))
    with tempfile.TemporaryDirectory(prefix="speechsense-airflow-") as home, emulator(Path(home)) as port:
        say(f"An emulator of SpeechSense listens on 127.0.0.1:{port}.")
        env = environment(Path(home), port)
        say("Making Airflow's database in a temporary home ...")
        airflow("db", "migrate", env=env)
        say("Running the DAG speechsense_call: upload, wait, get ...")
        conf = json.dumps({"output_folder": str(output)})
        airflow("dags", "test", "speechsense_call", "--conf", conf, env=env)
    (written,) = output.rglob("call.json")
    (talk,) = json.loads(written.read_text())
    print(f"\nWhat SpeechSense learnt from {HERE.name}/data/call.wav:\n\n{table(talk)}\n\nAll: {written}")


if __name__ == "__main__":
    main()
