"""The command: flags become settings, one line says where it serves, and a signal ends it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from airflow_provider_speechsense.emulator import Access, ConnectionType, Emulator
from airflow_provider_speechsense.emulator.__main__ import main
from tests.emulator.support import eventually, messages, stub_of, tone, upload_request, wav

GET = messages.GetTalkRequest(talk_ids=["aud0"])
MODULE = "airflow_provider_speechsense.emulator"


def call(port: str, key: str = "emulator-key") -> None:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub_of(channel, "TalkService/Get")(GET, metadata=[("authorization", f"Api-Key {key}")], timeout=20)


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_a_process_of_its_own_serves_until_a_signal(tmp_path: Path, ending: signal.Signals) -> None:
    port_file = tmp_path / "port"
    command = [sys.executable, "-m", MODULE, "--port", "0", "--port-file", port_file, "--log-calls"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        banner = process.stdout.readline()
        port = port_file.read_text()
        assert banner == f"SpeechSense emulator on 127.0.0.1:{port}, plain text, API key emulator-key\n"
        call(port)
        process.send_signal(ending)
        _, log = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "TalkService/Get OK" in log
    assert "emulator-key" not in log


@contextmanager
def running(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *arguments: str
) -> Iterator[tuple[Emulator, str]]:
    """Run the command in a thread of this process, and end it as a signal would."""
    started: list[Emulator] = []
    ended = threading.Event()
    start = Emulator.start
    monkeypatch.setattr(signal, "pthread_sigmask", lambda how, mask: None)
    monkeypatch.setattr(signal, "sigwait", lambda mask: ended.wait(20))
    monkeypatch.setattr(Emulator, "start", lambda self: (start(self), started.append(self))[0])
    port_file = tmp_path / "port"
    flags = ["--port", "0", "--port-file", str(port_file), *arguments]
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(main(flags)))
    thread.start()
    try:
        eventually(port_file.exists)
        yield started[0], port_file.read_text()
    finally:
        ended.set()
        thread.join(20)
    assert codes == [0]


def test_flags_become_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    connections, classifiers = tmp_path / "connections.json", tmp_path / "classifiers.json"
    connections.write_text(json.dumps({"c1": {"type": "chat"}}))
    classifiers.write_text(json.dumps({"complaint": ["late"]}))
    flags = ["--api-key", "k1", "--api-key", "k2", "--token", "t1", "--no-quota", "--quota-unit", "dialog"]
    flags += ["--processing-seconds", "10", "--badge-seconds", "7", "--connections", str(connections)]
    flags += ["--classifiers", str(classifiers), "--fault", "TalkService/Get:UNAVAILABLE:2"]
    with running(monkeypatch, tmp_path, *flags) as (emulator, port):
        settings = emulator.settings
        assert settings.api_keys == {"k1": Access.FULL, "k2": Access.FULL}
        assert settings.tokens == {"t1": Access.FULL}
        assert settings.get_quota == ()
        assert settings.quota_unit == "dialog"
        assert settings.queue_seconds + settings.processing_seconds == 10
        assert settings.badge_seconds == 7
        assert settings.connections["c1"].type is ConnectionType.CHAT
        assert settings.classifiers == {"complaint": ["late"]}
        for _ in range(2):
            with pytest.raises(grpc.RpcError):
                call(port, "k1")
        call(port, "k2")
    assert "k1" not in capsys.readouterr().out


def test_without_security_the_banner_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(monkeypatch, tmp_path, "--no-security") as (_, port):
        call(port, "anything")
    assert "no credentials needed" in capsys.readouterr().out


def test_a_connection_can_be_cut(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with running(monkeypatch, tmp_path, "--cut-after", "100000") as (emulator, port):
        assert int(port) != emulator.port
        call(port)
        audio = wav([tone((20_000, 5000))])
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.RpcError) as caught:
            stub_of(channel, "TalkService/Upload")(upload_request(audio), timeout=20)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--fault", "TalkService/Get:BROKEN"], "no status of a failure"),
        (["--fault", "Get:INTERNAL"], "is no method"),
        (["--fault", "TalkService/Get:INTERNAL:many"], "many"),
        (["--tls-cert", "cert.pem"], "tls_cert and tls_key go together"),
        (["--tls-cert", "nowhere.pem", "--tls-key", "nowhere.pem"], "nowhere.pem"),
        (["--connections", "broken.json"], "broken.json"),
        (["--host", "192.0.2.1"], "cannot listen on 192.0.2.1"),
    ],
)
def test_wrong_flags_are_said_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    text: str,
) -> None:
    (tmp_path / "broken.json").write_text("{")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signal, "pthread_sigmask", lambda how, mask: None)
    with pytest.raises(SystemExit) as caught:
        main(["--port", "0", *flags])
    assert caught.value.code == 2
    assert text in capsys.readouterr().err.splitlines()[-1]


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    with Emulator():
        assert os.listdir(tmp_path)
    assert os.listdir(tmp_path) == []
