"""Recordings come from object storage, and results go there; what breaks on the way is told as what it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

from airflow_provider_speechsense.emulator import Emulator
from airflow_provider_speechsense.exceptions import (
    ConfigurationError,
    NotFoundError,
    SourceReadError,
)
from airflow_provider_speechsense.hooks.speechsense import SpeechSenseHook
from airflow_provider_speechsense.operators.talks import SpeechSenseGetOperator
from airflow_provider_speechsense.operators.upload import (
    SpeechSenseBadgeOperator,
    SpeechSenseStreamOperator,
    SpeechSenseTextOperator,
    SpeechSenseUploadOperator,
)
from tests.helpers import BADGE, CALL, CHAT, METADATA, as_xcom

pytestmark = pytest.mark.usefixtures("connect", "instant_retries")

Context = dict[str, Any]


# --- S3, by the connection that the URI names


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    """A bucket ``calls`` on a server of our own."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    credentials = {"aws_access_key_id": "id", "aws_secret_access_key": "secret", "region_name": "ru-central1"}
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", **credentials)
    client.create_bucket(Bucket="calls", CreateBucketConfiguration={"LocationConstraint": "ru-central1"})
    yield client
    server.stop()


@pytest.fixture
def storage(s3: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The bucket, behind the Airflow connection ``storage``."""
    connection = {
        "conn_type": "aws",
        "login": "id",
        "password": "secret",
        "extra": {"endpoint_url": s3.meta.endpoint_url, "region_name": "ru-central1"},
    }
    monkeypatch.setenv("AIRFLOW_CONN_STORAGE", json.dumps(connection))
    return s3


@pytest.mark.parametrize("operator", [SpeechSenseUploadOperator, SpeechSenseStreamOperator])
def test_a_recording_and_its_metadata_come_from_s3(
    operator: type, storage: Any, emulator: Emulator, context: Context
) -> None:
    recording = CALL.read_bytes()
    storage.put_object(Bucket="calls", Key="day/1.wav", Body=recording)
    storage.put_object(Bucket="calls", Key="day/1.json", Body=json.dumps(METADATA).encode())
    task = operator(
        task_id="up", audio="s3://storage@calls/day/1.wav", metadata="s3://storage@calls/day/1.json"
    )
    talk_id = task.execute(context)
    assert emulator.audio(talk_id) == recording
    assert dict(emulator.talk(talk_id).fields) == METADATA


def test_an_object_that_is_not_there_is_named(storage: Any, emulator: Emulator, context: Context) -> None:
    task = SpeechSenseStreamOperator(task_id="up", audio="s3://storage@calls/no.wav", metadata=METADATA)
    with pytest.raises(AirflowFailException, match=r"s3://storage@calls/no\.wav does not exist"):
        task.execute(context)
    assert emulator.calls == []


def test_results_go_to_s3_whole_or_not_at_all(storage: Any, emulator: Emulator, context: Context) -> None:
    with SpeechSenseHook().get_conn() as client:
        talk_id = client.upload_text(CHAT["messages"], CHAT["metadata"])
    uri = "s3://storage@calls/results/1.json"
    manifest = as_xcom(
        SpeechSenseGetOperator(task_id="get", talk_ids=talk_id, output_uri=uri).execute(context)
    )
    assert manifest == {"output_uri": uri, "output_format": "json", "talks": 1}

    def written() -> Any:
        return json.loads(storage.get_object(Bucket="calls", Key="results/1.json")["Body"].read())

    assert [talk["id"] for talk in written()] == [talk_id]
    with pytest.raises(AirflowFailException) as caught:
        SpeechSenseGetOperator(task_id="get", talk_ids=[talk_id, "aud0"], output_uri=uri).execute(context)
    assert isinstance(caught.value.__cause__, NotFoundError)
    assert [talk["id"] for talk in written()] == [talk_id], "the old results are still there"


# --- a store that breaks


class _BreakingFile(MemoryFile):
    def read(self, size: int = -1, /) -> bytes:
        if self.tell() >= 150_000:
            raise OSError("the storage closed the connection")
        return super().read(size)


class _BreakingStore(MemoryFileSystem):
    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        return _BreakingFile(self, path, self.store[path].getvalue())


@pytest.fixture
def breaking_store() -> Iterator[str]:
    """The URI of a recording in a store that breaks after 150,000 bytes."""
    try:
        from airflow.sdk.io import attach
    except ImportError:
        from airflow.io.store import attach
    MemoryFileSystem().pipe("/calls/1.wav", BADGE.read_bytes())  # all of them share their contents
    attach("memory", conn_id="breaking", fs=_BreakingStore())
    yield "memory://breaking@calls/1.wav"
    MemoryFileSystem.store.clear()


@pytest.mark.parametrize("operator", [SpeechSenseStreamOperator, SpeechSenseBadgeOperator])
def test_a_source_that_breaks_in_the_middle_of_a_stream_is_reported_as_that(
    operator: type, breaking_store: str, emulator: Emulator, context: Context
) -> None:
    task = operator(task_id="up", audio=breaking_store, metadata=METADATA, chunk_size=50_000)
    with pytest.raises(AirflowException) as caught:
        task.execute(context)
    assert isinstance(caught.value.__cause__, SourceReadError)
    assert type(caught.value) is AirflowException, "a retry starts from the beginning"
    text = str(caught.value)
    assert f"{breaking_store} cannot be read: OSError: the storage closed the connection" in text
    assert "check the storage and its connection" in text
    assert emulator.talks == [], "a stream that breaks off makes no talk"


def test_what_airflow_cannot_open_is_told_with_what_to_install(emulator: Emulator, context: Context) -> None:
    for task in (
        SpeechSenseUploadOperator(task_id="up", audio="gs://calls/1.wav", metadata=METADATA),
        SpeechSenseStreamOperator(task_id="up", audio="gs://calls/1.wav", metadata=METADATA),
        SpeechSenseTextOperator(task_id="up", messages="gs://calls/1.json", metadata=CHAT["metadata"]),
        SpeechSenseGetOperator(task_id="get", talk_ids="t1", output_uri="gs://calls/1.json"),
    ):
        with pytest.raises(AirflowFailException, match="apache-airflow-providers-google") as caught:
            task.execute(context)
        assert isinstance(caught.value.__cause__, ConfigurationError)
    assert emulator.calls == []
