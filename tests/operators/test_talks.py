"""Talks are found and fetched, whole and as plain JSON, in XCom or in a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_speechsense.api import SpeechSenseClient
from airflow_provider_speechsense.emulator import Emulator, Fault, ManualClock
from airflow_provider_speechsense.exceptions import (
    ConfigurationError,
    InvalidRequestError,
    NotFoundError,
    ServiceUnavailableError,
)
from airflow_provider_speechsense.hooks.speechsense import SpeechSenseHook
from airflow_provider_speechsense.operators import talks as module
from airflow_provider_speechsense.operators.talks import SpeechSenseGetOperator, SpeechSenseSearchOperator
from tests.helpers import CALL, CHAT, LONG, METADATA, Connect, as_xcom

pytestmark = pytest.mark.usefixtures("connect")

Context = dict[str, Any]


@pytest.fixture
def client(connect: Connect) -> SpeechSenseClient:
    return SpeechSenseHook().get_conn()


def upload_chats(client: SpeechSenseClient, count: int) -> list[str]:
    return [
        client.upload_text(
            CHAT["messages"],
            {**CHAT["metadata"], "date": f"2026-03-{day:02}T08:00:00Z", "ticket_id": str(day)},
        )
        for day in range(1, count + 1)
    ]


def search(**arguments: Any) -> SpeechSenseSearchOperator:
    return SpeechSenseSearchOperator(task_id="search", **arguments)


def get(**arguments: Any) -> SpeechSenseGetOperator:
    return SpeechSenseGetOperator(task_id="get", **arguments)


# --- search


def test_a_search_returns_the_ids_that_match(client: SpeechSenseClient, context: Context) -> None:
    talk_ids = upload_chats(client, 4)
    date = {
        "key": "userMeta.date",
        "date_range": {
            "from_value": "2026-03-02T08:00:00Z",
            "to_value": "2026-03-04T08:00:00Z",
            "bounds_inclusive": {"from_inclusive": True},
        },
    }
    assert as_xcom(search(filters=[date], sort=["userMeta.date"]).execute(context)) == talk_ids[1:3]
    assert search(filters=[date], sort=["-userMeta.date"]).execute(context) == talk_ids[2:0:-1]
    assert search(query="посылка").execute(context) != []
    assert search(query={"text": "посылка", "inverse": True}).execute(context) == []


@pytest.mark.parametrize(("limit", "found"), [(None, 5), ("", 5), (2, 2), ("3", 3), (9, 5)])
def test_a_search_ends_at_its_limit(
    limit: Any, found: int, client: SpeechSenseClient, context: Context
) -> None:
    upload_chats(client, 5)
    assert len(search(limit=limit).execute(context)) == found


@pytest.mark.parametrize("limit", [0, -1, "many", "1.5", [3]])
def test_a_limit_that_is_none_is_refused(limit: Any, emulator: Emulator, context: Context) -> None:
    with pytest.raises(AirflowFailException, match="a whole number above 0"):
        search(limit=limit).execute(context)
    assert emulator.calls == []


def test_ids_of_the_operator_beat_those_of_the_connection(
    emulator: Emulator, context: Context, connect: Connect
) -> None:
    connect(extra={"space_id": "s1", "project_id": "p1"})
    search(space_id="s2", organization_id="o2").execute(context)
    (call,) = emulator.calls
    request = call.request
    assert (request.organization_id, request.space_id, request.project_id) == ("o2", "s2", "p1")
    assert request.connection_id == "c1"


# --- get


def test_talks_come_back_as_plain_json(
    client: SpeechSenseClient, context: Context, clock: ManualClock
) -> None:
    talk_id = client.upload(CALL, METADATA)
    clock.advance(LONG)
    (talk,) = as_xcom(get(talk_ids=talk_id).execute(context))
    assert talk["id"] == talk_id
    assert talk["talk_state"]["processing_state"] == "PROCESSING_STATE_SUCCESS"
    assert {field["name"]: field["value"] for field in talk["talk_fields"]} == METADATA
    assert talk["conversation_statistics"]["conversation_boundaries"]["duration_seconds"] > 10


def test_a_mask_absent_empty_and_given_are_three_requests(
    client: SpeechSenseClient, emulator: Emulator, context: Context
) -> None:
    (talk_id,) = upload_chats(client, 1)
    for mask in (None, [], ["talk_state", "transcription"], "talk_state,transcription"):
        get(talk_ids=[talk_id], results_mask=mask).execute(context)
    requests = [call.request for call in emulator.calls if call.method == "TalkService/Get"]
    assert [request.HasField("results_mask") for request in requests] == [False, True, True, True]
    assert [list(request.results_mask.paths) for request in requests[1:]] == [
        [],
        ["talk_state", "transcription"],
        ["talk_state", "transcription"],
    ]


def test_what_a_mapped_task_returned_can_be_fetched(client: SpeechSenseClient, context: Context) -> None:
    first, second, third = upload_chats(client, 3)
    talks = get(talk_ids=[[first], [second, third]], results_mask=[]).execute(context)
    assert [talk["id"] for talk in talks] == [first, second, third]


def test_any_number_of_talks_is_fetched_in_batches(
    client: SpeechSenseClient, emulator: Emulator, context: Context, tmp_path: Path
) -> None:
    talk_ids = [client.upload_text(**_chat(n)) for n in range(130)]
    manifest = as_xcom(
        get(talk_ids=talk_ids, results_mask=[], output_uri=f"{tmp_path}/t.json").execute(context)
    )
    assert manifest == {"output_uri": f"{tmp_path}/t.json", "output_format": "json", "talks": 130}
    assert [talk["id"] for talk in json.loads((tmp_path / "t.json").read_text())] == talk_ids
    asked = [len(call.request.talk_ids) for call in emulator.calls if call.method == "TalkService/Get"]
    assert asked == [100, 30]


def _chat(number: int) -> dict[str, Any]:
    return {"messages": CHAT["messages"], "metadata": {**CHAT["metadata"], "ticket_id": str(number)}}


def test_many_talks_in_xcom_are_warned_of(
    client: SpeechSenseClient,
    context: Context,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    talk_ids = upload_chats(client, 2)
    get(talk_ids=talk_ids, results_mask=[]).execute(context)
    assert "go into XCom" not in capsys.readouterr().out
    monkeypatch.setattr(module, "_MANY_FOR_XCOM", 1)
    get(talk_ids=talk_ids, results_mask=[]).execute(context)
    assert "2 talks go into XCom; give output_uri" in capsys.readouterr().out


def test_the_transcript_survives_what_databases_refuse(client: SpeechSenseClient, context: Context) -> None:
    messages = [{**CHAT["messages"][0], "text": "null\x00byte"}]
    talk_id = client.upload_text(messages, CHAT["metadata"])
    (talk,) = as_xcom(get(talk_ids=talk_id).execute(context))
    assert "nullbyte" in json.dumps(talk)


# --- what goes wrong


def test_an_unknown_id_is_named_and_no_half_file_is_left(
    client: SpeechSenseClient, context: Context, tmp_path: Path
) -> None:
    (talk_id,) = upload_chats(client, 1)
    task = get(talk_ids=[talk_id, "aud00nowhere"], output_uri=f"{tmp_path}/t.json")
    with pytest.raises(AirflowFailException, match="does not know the talks aud00nowhere") as caught:
        task.execute(context)
    assert isinstance(caught.value.__cause__, NotFoundError)
    assert "the space and project of the connection" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("instant_retries")
def test_a_service_that_breaks_down_halfway_leaves_no_half_file(
    client: SpeechSenseClient,
    emulator: Emulator,
    context: Context,
    tmp_path: Path,
) -> None:
    talk_ids = [client.upload_text(**_chat(n)) for n in range(101)]
    emulator.script(Fault(method="TalkService/Get", code="UNAVAILABLE", count=None, after=1))
    task = get(talk_ids=talk_ids, output_uri=f"{tmp_path}/t.json")
    with pytest.raises(AirflowException) as caught:
        task.execute(context)
    assert type(caught.value) is AirflowException
    assert isinstance(caught.value.__cause__, ServiceUnavailableError)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("talk_ids", [[], None, "", [""], [7], [["t1"], [None]]])
def test_ids_that_are_none_are_refused(talk_ids: Any, emulator: Emulator, context: Context) -> None:
    with pytest.raises(AirflowFailException, match="talk_ids") as caught:
        get(talk_ids=talk_ids).execute(context)
    assert isinstance(caught.value.__cause__, InvalidRequestError)
    assert emulator.calls == []


def test_a_format_of_a_later_release_is_refused(emulator: Emulator, context: Context) -> None:
    with pytest.raises(AirflowFailException, match="this release writes json") as caught:
        get(talk_ids="t1", output_uri="t.parquet", output_format="parquet").execute(context)
    assert isinstance(caught.value.__cause__, ConfigurationError)
    assert emulator.calls == []


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_asked(
    emulator: Emulator, context: Context, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AirflowFailException, match="cannot be written"):
        get(talk_ids="t1", output_uri=f"{tmp_path}/file/t.json").execute(context)
    assert emulator.calls == []
