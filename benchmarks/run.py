"""What the README claims, measured in one run with the yardstick beside it: ``make bench``.

Needs the environments that the Makefile makes: this package's, and one with the official stubs, whose Python
the variable STUBS_PYTHON names.
Everything runs on this machine, against the emulator in a process of its own. Medians of five.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from airflow_provider_speechsense.api import ApiKey, ClientSettings, SpeechSenseClient
from airflow_provider_speechsense.api.polling import Pending
from airflow_provider_speechsense.api.waits import TalkWait
from airflow_provider_speechsense.emulator import Emulator, EmulatorSettings

HERE = Path(__file__).resolve().parent
KEY = "bench-key"
MIB = 1 << 20
RUNS = 5
CHUNK = 1 * MIB
#: What the service's documents chunk by in their older sample.
DOCUMENTED_CHUNK = 1024
#: 1 KiB at a time a whole GiB would take minutes and show nothing more.
SMALL_FILE = 64 * MIB
PENDING_TALKS = 1000


def recording(path: Path, size: int) -> Path:
    """Write a two-channel WAV of about ``size`` bytes; 48 kHz keeps a GiB under the 4 hours allowed."""
    block = os.urandom(MIB)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(48_000)
        for _ in range(size // MIB):
            file.writeframesraw(block)
    return path


@contextmanager
def emulator(folder: Path) -> Iterator[str]:
    """Run the emulator in a process of its own; give its address."""
    port_file = folder / "port"
    port_file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "airflow_provider_speechsense.emulator", "--port", "0", "--no-quota"]
    process = subprocess.Popen(
        [*command, "--api-key", KEY, "--port-file", str(port_file)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield f"127.0.0.1:{port_file.read_text().strip()}"
    finally:
        process.terminate()
        process.wait(30)


def upload(python: str, script: str, folder: Path, path: Path, chunk: int) -> dict[str, float]:
    """Upload once in a fresh process to a fresh emulator; return rate in MB/s and growth in MiB."""
    with emulator(folder) as address:
        done = subprocess.run(
            [python, str(HERE / script), address, KEY, str(path), str(chunk)],
            check=True,
            capture_output=True,
            text=True,
            timeout=600,
        )
    figures = json.loads(done.stdout)
    return {"rate": path.stat().st_size / 1e6 / figures["seconds"], "grown": figures["grown"] / MIB}


def uploads(stubs: str, folder: Path) -> list[tuple[str, str]]:
    """Measure streaming, the yardsticks in turn with ours so that all see the same weather."""
    large = recording(folder / "large.wav", 1024 * MIB)
    small = recording(folder / "small.wav", SMALL_FILE)
    ours, official, documented = [], [], []
    for run in range(RUNS):
        ours.append(upload(sys.executable, "upload_ours.py", folder, large, CHUNK))
        official.append(upload(stubs, "upload_official.py", folder, large, CHUNK))
        documented.append(upload(stubs, "upload_official.py", folder, small, DOCUMENTED_CHUNK))
        print(f"round {run + 1} of {RUNS} done", file=sys.stderr, flush=True)

    def rate(runs: list[dict[str, float]]) -> float:
        return statistics.median(run["rate"] for run in runs)

    grown = statistics.median(run["grown"] for run in ours)
    return [
        ("Streaming 1 GiB from disk, 1 MiB chunks", f"{rate(ours):,.0f} MB/s"),
        ("the bare official stub, same chunks", f"{rate(official):,.0f} MB/s"),
        ("the bare official stub, 1,024-byte chunks (64 MiB)", f"{rate(documented):,.1f} MB/s"),
        ("ours / official stub", f"{rate(ours) / rate(official):.2f} (wanted: 0.8 or more)"),
        ("ours / 1,024-byte chunks", f"{rate(ours) / rate(documented):,.0f} (wanted: 30 or more)"),
        ("memory beyond its size after import", f"{grown:.0f} MiB (wanted: 48 or less)"),
    ]


def polling() -> list[tuple[str, str]]:
    """Count the Get calls of one look at many pending talks."""
    data = HERE.parent / "example_dags" / "data"
    audio, metadata = (data / "call.ogg").read_bytes(), json.loads((data / "call.json").read_text())
    settings = EmulatorSettings(processing_seconds=3600, get_quota=())
    with Emulator(settings) as server:
        client_settings = ClientSettings(
            endpoint=server.address, credentials=ApiKey(server.api_key), tls=None
        )
        with SpeechSenseClient(client_settings) as client:
            ids = [client.upload(audio, metadata, connection_id="eag0bench") for _ in range(PENDING_TALKS)]
            before = sum(call.method == "TalkService/Get" for call in server.calls)
            wait = TalkWait(ids, poll_interval=60, end_time=2e9 * 2, visible_by=2e9 * 2)
            assert isinstance(wait.look(client, 0.0), Pending)
            calls = sum(call.method == "TalkService/Get" for call in server.calls) - before
    return [(f"Get calls for one look at {PENDING_TALKS:,} pending talks", f"{calls} (wanted: 10)")]


def main() -> None:
    """Measure everything and print a table."""
    stubs = os.environ["STUBS_PYTHON"]
    with tempfile.TemporaryDirectory() as folder:
        rows = [*uploads(stubs, Path(folder)), *polling()]
    print(f"\n{os.cpu_count()} cores, Python {platform.python_version()}, medians of {RUNS} runs\n")
    print("| what | figure |\n| --- | --- |")
    for name, figure in rows:
        print(f"| {name} | {figure} |")


if __name__ == "__main__":
    main()
