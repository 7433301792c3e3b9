"""A declared connection is enforced: what it takes, its channels, its keys and their types."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_speechsense.emulator import Connection, ConnectionType, FieldType, Key
from airflow_provider_speechsense.emulator.connections import TEMPLATES, parse_connections
from tests.emulator.support import (
    BOT_FIELDS,
    CALL_FIELDS,
    MONO,
    STEREO,
    Serve,
    chat_request,
    edit,
    messages,
    stream,
    two_channel,
    upload_request,
)


def test_an_undeclared_connection_takes_anything(serve: Serve) -> None:
    bench = serve(connections=two_channel())
    bench.upload(MONO, connection_id="other")


def test_a_declared_connection_asks_for_its_keys(serve: Serve) -> None:
    bench = serve(connections=two_channel())
    fields = {name: value for name, value in CALL_FIELDS.items() if name not in ("language", "date")}
    code, details = bench.refused("TalkService/Upload", upload_request(STEREO, **fields))
    assert code == "INVALID_ARGUMENT"
    assert details.endswith("requires: date, language")
    assert bench.upload(STEREO, **CALL_FIELDS)


def test_missing_keys_can_be_forgiven(serve: Serve) -> None:
    assert serve(connections=two_channel(), missing_keys_refused=False).upload(STEREO)


def test_unknown_keys_are_dropped_unless_they_are_refused(serve: Serve) -> None:
    bench = serve(connections=two_channel())
    talk = bench.analysed(bench.upload(STEREO, **CALL_FIELDS, file_url="s3://x"))
    assert "file_url" not in {field.name for field in talk.talk_fields}
    strict = serve(connections=two_channel(), unknown_keys_accepted=False)
    details = strict.refused("TalkService/Upload", upload_request(STEREO, **CALL_FIELDS, file_url="s3://x"))[
        1
    ]
    assert details.endswith("does not declare: file_url")


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (FieldType.STRING, ["", "anything"], []),
        (FieldType.NUMBER, ["0", "-12", "+7", ""], ["1.0", "twelve", "1 000", "٣"]),
        (FieldType.DECIMAL, ["1", "-1.5", ".5", "2.", "1e3"], ["1,5", "nan", "0x1"]),
        (FieldType.BOOLEAN, ["true", "false"], ["True", "1", "yes"]),
        (
            FieldType.DATE,
            ["2025-04-24T14:34:19Z", "2025-04-24T14:34:19.123+03:00"],
            ["24.04.2025", "2025-13-01"],
        ),
        (FieldType.JSON, ['{"a": [1, null]}', "1"], ["{", "[" * 1000]),
    ],
)
def test_values_have_the_form_of_their_type(
    serve: Serve, kind: FieldType, good: list[str], bad: list[str]
) -> None:
    bench = serve(connections=two_channel(extra=Key(kind)))
    lax = serve(connections=two_channel(extra=Key(kind)), ill_typed_values_refused=False)
    for value in good:
        assert bench.upload(STEREO, **CALL_FIELDS, extra=value)
    for value in bad:
        code, details = bench.refused(
            "TalkService/Upload", upload_request(STEREO, **CALL_FIELDS, extra=value)
        )
        assert code == "INVALID_ARGUMENT"
        assert details.startswith(f"metadata.extra is no {kind.value}: ")
        assert lax.upload(STEREO, **CALL_FIELDS, extra=value)


def test_naive_dates_are_utc_unless_they_are_refused(serve: Serve) -> None:
    fields = {**CALL_FIELDS, "date": "2025-04-24T14:34:19"}
    assert serve(connections=two_channel()).upload(STEREO, **fields)
    strict = serve(connections=two_channel(), naive_dates="refused")
    details = strict.refused("TalkService/Upload", upload_request(STEREO, **fields))[1]
    assert details == "metadata.date is no date: a date without a UTC offset"


def test_talk_fields_have_the_declared_types_and_keys_without_a_value(serve: Serve) -> None:
    bench = serve(connections=two_channel(score=Key(FieldType.NUMBER)))
    talk = bench.analysed(bench.upload(STEREO, **CALL_FIELDS))
    fields = {field.name: (field.value, messages.FieldType.Name(field.type)) for field in talk.talk_fields}
    assert fields["date"] == ("2025-04-24T14:34:19Z", "FIELD_TYPE_DATE")
    assert fields["direction_outgoing"] == ("true", "FIELD_TYPE_BOOLEAN")
    assert fields["score"] == ("", "FIELD_TYPE_NUMBER")


AUDIO, TEXT, BADGE = "TalkService/UploadAsStream", "TalkService/UploadText", "TalkService/UploadBadge"


@pytest.mark.parametrize(
    ("kind", "audio", "taken"),
    [
        (ConnectionType.TWO_CHANNEL, STEREO, AUDIO),
        (ConnectionType.ONE_CHANNEL, MONO, AUDIO),
        (ConnectionType.SPLITTING, MONO, BADGE),
        (ConnectionType.CHAT, MONO, TEXT),
    ],
)
def test_a_connection_takes_only_what_its_type_is_for(
    serve: Serve, kind: ConnectionType, audio: bytes, taken: str
) -> None:
    bench = serve(connections={"c1": Connection(kind)})
    fields = CALL_FIELDS | BOT_FIELDS

    def request_of(method: str) -> Any:
        return chat_request((1, "cl", "hello"), **fields) if method == TEXT else stream(audio, **fields)

    for method in (AUDIO, TEXT, BADGE):
        if method == taken:
            bench.call(method, request_of(method))
        else:
            code, details = bench.refused(method, request_of(method))
            assert code == "INVALID_ARGUMENT"
            assert f"({kind.value}) does not take" in details


@pytest.mark.parametrize(
    ("kind", "audio", "method"),
    [
        (ConnectionType.TWO_CHANNEL, MONO, AUDIO),
        (ConnectionType.ONE_CHANNEL, STEREO, AUDIO),
        (ConnectionType.SPLITTING, STEREO, BADGE),
    ],
)
def test_the_number_of_channels_fits_the_connection(
    serve: Serve, kind: ConnectionType, audio: bytes, method: str
) -> None:
    bench = serve(connections={"c1": Connection(kind)})
    code, details = bench.refused(method, stream(audio, **CALL_FIELDS))
    assert code == "INVALID_ARGUMENT"
    assert "channels, connection c1 takes" in details


def test_connections_are_read_from_json() -> None:
    document = {
        "plain": {"type": "chat"},
        "own": {
            "type": "one_channel",
            "keys": {"date": {"type": "date", "required": True}, "score": "number"},
        },
    }
    found = parse_connections(json.loads(json.dumps(document)))
    assert found["plain"].keys == TEMPLATES[ConnectionType.CHAT]
    assert found["own"].keys == {"date": Key(FieldType.DATE, required=True), "score": Key(FieldType.NUMBER)}


@pytest.mark.parametrize(
    "document", [[], {"c1": 5}, {"c1": {}}, {"c1": {"type": "chat", "keys": {"a": "url"}}}]
)
def test_a_document_that_declares_no_connections_is_refused(document: Any) -> None:
    with pytest.raises(ValueError, match="connection"):
        parse_connections(document)


def test_an_edit_may_leave_out_required_keys_which_lose_their_values(serve: Serve) -> None:
    bench = serve(connections=two_channel())
    talk_id = bench.upload(STEREO, **CALL_FIELDS)
    bench.call("TalkService/Upload", edit(talk_id, language="kk-KZ"))
    fields = {field.name: field.value for field in bench.get(talk_id)[0].talk_fields}
    assert fields == dict.fromkeys(CALL_FIELDS, "") | {"language": "kk-KZ"}
