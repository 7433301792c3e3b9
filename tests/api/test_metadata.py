"""Metadata and chats are rendered as the service documents, and every fault is told at once."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any

import pytest

from airflow_provider_speechsense.api.metadata import (
    MAX_KEYS,
    TalkMetadata,
    check_chat,
    check_metadata,
    format_time,
    parse_time,
)
from airflow_provider_speechsense.exceptions import InvalidChatError, InvalidMetadataError
from tests.api.support import CHAT, CHAT_METADATA, METADATA

MOSCOW = timezone(timedelta(hours=3))


class Language(str, Enum):  # noqa: UP042 - users have such
    RUSSIAN = "ru-RU"


def check(metadata: object = METADATA, **options: Any) -> TalkMetadata:
    return check_metadata(metadata, **{"connection_id": "c1", **options})


def with_value(value: Any) -> dict[str, Any]:
    return {**METADATA, "score": value}


def violations(metadata: object = METADATA, **options: Any) -> tuple[str, ...]:
    with pytest.raises(InvalidMetadataError) as caught:
        check(metadata, **options)
    return caught.value.violations


def chat_violations(*messages: Any, fields: Any = CHAT_METADATA) -> tuple[str, ...]:
    with pytest.raises(InvalidChatError) as caught:
        check_chat(messages, fields)
    return caught.value.violations


# --- values


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is", "as it is"),
        ("", ""),
        (Language.RUSSIAN, "ru-RU"),
        (True, "true"),
        (False, "false"),
        (42, "42"),
        (-0.5, "-0.5"),
        (1e-7, "0.0000001"),
        (1e22, "10000000000000000000000"),
        (Decimal("1E+3"), "1000"),
        (datetime(2025, 4, 24, 14, 34, 19, tzinfo=UTC), "2025-04-24T14:34:19Z"),
        (datetime(2025, 4, 24, 17, 34, 19, 250_000, tzinfo=MOSCOW), "2025-04-24T17:34:19.250+03:00"),
        (date(2025, 4, 24), "2025-04-24"),
        ({"имя": [1, None]}, '{"имя":[1,null]}'),
        (("a", "b"), '["a","b"]'),
        ("я" * 512, "я" * 512),
    ],
)
def test_a_value_is_rendered_in_its_documented_text_form(value: Any, text: str) -> None:
    assert check(with_value(value)).fields["score"] == text


def test_a_value_that_is_none_is_left_out() -> None:
    assert "score" not in check(with_value(None)).fields


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("я" * 513, "1026 bytes of UTF-8, the service takes 1024"),
        (["x"] * 300, "bytes of UTF-8, the service takes 1024"),
        (float("nan"), "nan is no number"),
        (Decimal("Infinity"), "Infinity is no number"),
        ({"a": float("inf")}, "has no JSON form"),
        ({"a": object()}, "has no JSON form"),
        (b"bytes", "a bytes has no text form here"),
        ("\ud800", "half a surrogate pair"),
    ],
)
def test_a_value_that_cannot_be_sent_is_named_with_its_fault(value: Any, fault: str) -> None:
    (violation,) = violations(with_value(value))
    assert violation.startswith("score: ")
    assert fault in violation


@pytest.mark.parametrize("key", ["", " ", 7, "\ud800"])
def test_a_key_is_a_name(key: Any) -> None:
    assert violations({**METADATA, key: "x"}) == (f"the key {key!r} is not a name.",)


def test_more_keys_than_the_service_takes_are_refused() -> None:
    many = {f"key{i}": i for i in range(MAX_KEYS - len(METADATA))}
    assert len(check({**METADATA, **many}).fields) == MAX_KEYS
    (violation,) = violations({**METADATA, **many, "straw": 1})
    assert violation.startswith("201 keys, the service takes 200")


def test_metadata_that_is_no_mapping_is_refused() -> None:
    assert violations(["date"]) == ("metadata is a list, not a mapping of keys to values.",)


def test_a_missing_connection_id_is_refused_with_where_to_find_it() -> None:
    (violation,) = violations(connection_id=None)
    assert "console shows it" in violation


# --- what only templates ask for


def test_complete_metadata_gives_no_warning() -> None:
    assert check(strict=True).warnings == ()


@pytest.mark.parametrize(
    ("kind", "missing"),
    [
        ("audio", "operator_name, client_name, client_id, language, direction_outgoing"),
        ("badge", "operator_name, client_name, client_id, language"),
        ("chat", "operator_name, client_name, client_id, language, direction_outgoing, bot_name, bot_id"),
    ],
)
def test_missing_template_keys_are_a_warning_and_strictly_an_error(kind: str, missing: str) -> None:
    some = {"date": "2025-04-24T14:34:19Z", "operator_id": "1", "client_id": ""}
    (warning,) = check(some, kind=kind).warnings
    assert warning.startswith(f"missing {missing}: ")
    assert violations(some, kind=kind, strict=True) == (warning,)


def test_a_date_that_is_missing_is_missing_and_not_faulty() -> None:
    (warning,) = check({**METADATA, "date": None}).warnings
    assert warning.startswith("missing date: ")


@pytest.mark.parametrize("naive", ["2025-04-24T14:34:19", datetime(2025, 4, 24, 14, 34, 19)])
def test_a_date_without_a_zone_is_a_warning_and_strictly_an_error(naive: Any) -> None:
    metadata = {**METADATA, "date": naive}
    checked = check(metadata)
    assert checked.fields["date"] == "2025-04-24T14:34:19"
    assert checked.warnings == violations(metadata, strict=True)
    assert "Add Z for UTC, or the offset." in checked.warnings[0]


@pytest.mark.parametrize("value", ["0", "outgoing", "True"])
def test_a_direction_that_is_no_boolean_is_a_warning_and_strictly_an_error(value: str) -> None:
    metadata = {**METADATA, "direction_outgoing": value}
    (warning,) = check(metadata).warnings
    assert "give true for an outgoing call" in warning
    assert violations(metadata, strict=True) == (warning,)


@pytest.mark.parametrize(
    "value", ["yesterday", "24.04.2025", "2025-04-24", "2025-13-01T00:00:00Z", date(2025, 4, 24), 1745505259]
)
def test_a_date_that_is_none_is_refused(value: Any) -> None:
    (violation,) = violations({**METADATA, "date": value})
    assert violation.startswith("date: ")
    assert "like 2025-04-24T14:34:19Z" in violation or "is no moment" in violation


def test_all_violations_are_in_one_error() -> None:
    faulty = {"date": "today", "score": float("nan"), "note": "я" * 600, "": 1}
    found = violations(faulty, connection_id="", users=[{"role": "client"}], strict=True)
    assert len(found) == 7
    for name in ("connection_id", "date:", "score:", "note:", "the key ''", "missing", "users[0]"):
        assert any(name in violation for violation in found), name


# --- participants


def test_users_are_passed_on_with_rendered_values_and_full_role_names() -> None:
    users = [
        {"id": 1001, "role": "operator", "fields": {"senior": True}},
        {"id": "b", "role": "USER_ROLE_BOT"},
        {"id": "c", "role": None, "fields": None},
    ]
    assert check(users=users).users == (
        {"id": "1001", "role": "USER_ROLE_OPERATOR", "fields": {"senior": "true"}},
        {"id": "b", "role": "USER_ROLE_BOT", "fields": {}},
        {"id": "c", "role": "USER_ROLE_UNSPECIFIED", "fields": {}},
    )


@pytest.mark.parametrize(
    ("users", "fault"),
    [
        ("anna", "users is a str, not a list."),
        ({"id": 1}, "users is a dict, not a list."),
        (5, "users is a int, not a list."),
        (["anna"], "users[0]: not a mapping with an id."),
        ([{"id": ""}], "users[0]: not a mapping with an id."),
        ([{"id": 1, "role": "boss"}], "users[0]: role 'boss' is none of operator, client, bot."),
        ([{"id": 1, "name": "A"}], "users[0]: unknown key name."),
        ([{"id": 1, "fields": ["x"]}], "users[0]: fields is a list, not a mapping of keys to values."),
        ([{"id": 1, "fields": {"x": b""}}], "users[0]: x: a bytes has no text form here: "),
    ],
)
def test_faults_in_users_are_named(users: Any, fault: str) -> None:
    (violation,) = violations(users=users)
    assert violation.startswith(fault)


# --- chats


def test_a_chat_is_checked_against_the_ids_of_its_metadata() -> None:
    first, second = check_chat(CHAT, check(CHAT_METADATA, kind="chat").fields)
    assert (first.user_id, first.text) == ("2002", "where is my parcel?")
    assert first.timestamp == datetime(2025, 4, 24, 14, 34, 19, 100_000, tzinfo=UTC)
    assert second.user_id == "3003"


def test_a_senders_id_may_be_a_number_and_a_time_in_any_zone() -> None:
    moment = datetime(2025, 4, 24, 17, 0, tzinfo=MOSCOW)
    (message,) = check_chat([{"user_id": 2002, "timestamp": moment, "text": ""}], {"client_id": "2002"})
    assert message.user_id == "2002"
    assert message.timestamp.isoformat() == "2025-04-24T14:00:00+00:00"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"user_id": "999"}, "the sender '999' is none of the metadata's ids (operator_id '1001', "),
        ({"user_id": None}, "the sender 'None' is none of the metadata's ids"),
        ({"timestamp": "noon"}, "timestamp 'noon' is not like 2025"),
        ({"timestamp": "2025-02-30T00:00:00Z"}, "timestamp '2025-02-30T00:00:00Z' is no moment"),
        ({"timestamp": "2025-04-24T14:34:19"}, "names no time zone: add Z for UTC"),
        ({"timestamp": 1745505259}, "timestamp is 1745505259, not a datetime"),
        ({"timestamp": None}, "timestamp is None, not a datetime"),
        ({"text": None}, "text is None, not a string."),
        ({"text": "\udfff"}, "text holds half a surrogate pair"),
        ({"txt": "hi"}, "unknown key txt."),
    ],
)
def test_a_faulty_message_is_named_by_its_number(change: dict[str, Any], fault: str) -> None:
    (violation,) = chat_violations(CHAT[0], {**CHAT[1], **change})
    assert violation.startswith("message 2: ")
    assert fault in violation


def test_a_chat_without_ids_in_its_metadata_says_that_there_are_none() -> None:
    (violation,) = chat_violations(CHAT[0], fields={})
    assert "(none is given)" in violation


@pytest.mark.parametrize("messages", ["hello", b"hello", CHAT[0], 5, None])
def test_messages_are_a_list(messages: Any) -> None:
    with pytest.raises(InvalidChatError, match="not a list of messages"):
        check_chat(messages, CHAT_METADATA)


def test_all_faults_of_a_chat_are_in_one_error() -> None:
    assert chat_violations() == ("no messages: a chat needs at least one.",)
    found = chat_violations("hi", {"user_id": "x", "timestamp": "y", "text": 1})
    assert len(found) == 4
    assert found[0] == "message 1: a str, not a dict with user_id, timestamp and text."


# --- times


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2025-04-24T14:34:19Z", datetime(2025, 4, 24, 14, 34, 19, tzinfo=UTC)),
        ("2025-04-24t14:34:19z", datetime(2025, 4, 24, 14, 34, 19, tzinfo=UTC)),
        ("2025-04-24 14:34", datetime(2025, 4, 24, 14, 34)),
        ("2025-04-24T17:34:19+03", datetime(2025, 4, 24, 17, 34, 19, tzinfo=MOSCOW)),
        ("2025-04-24T17:34:19.5+0300", datetime(2025, 4, 24, 17, 34, 19, 500_000, tzinfo=MOSCOW)),
        ("2025-04-24T14:34:19.123456789Z", datetime(2025, 4, 24, 14, 34, 19, 123_456, tzinfo=UTC)),
    ],
)
def test_iso_8601_is_read_as_the_service_documents_it(text: str, moment: datetime) -> None:
    assert parse_time(text) == moment
    assert parse_time(text).tzinfo == moment.tzinfo


def test_a_rendered_time_reads_back_to_the_millisecond() -> None:
    moment = datetime(2025, 4, 24, 14, 34, 19, 123_000, tzinfo=MOSCOW)
    assert parse_time(format_time(moment)) == moment
