"""Talk metadata and chat messages: rendered as the service documents, every fault reported at once.

What the service certainly refuses is an error. What only the templates of its connections ask for is a
warning, and an error when strict, because no API tells which keys a connection declares.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from airflow_provider_speechsense.exceptions import InvalidChatError, InvalidMetadataError

#: Quota "metadata keys per connection".
MAX_KEYS = 200
#: Quota on a string value, in bytes of UTF-8: about 512 Cyrillic letters.
MAX_VALUE_BYTES = 1024

_COMMON_KEYS = ("operator_name", "operator_id", "client_name", "client_id", "date", "language")
#: The keys that the service's connection templates require, by what is uploaded.
TEMPLATE_KEYS: Mapping[str, tuple[str, ...]] = {
    "audio": (*_COMMON_KEYS, "direction_outgoing"),
    "badge": _COMMON_KEYS,
    "chat": (*_COMMON_KEYS, "direction_outgoing", "bot_name", "bot_id"),
}
#: Metadata keys that name the participants of a chat; a message's sender is one of their values.
SENDER_KEYS = ("operator_id", "client_id", "bot_id")

_ISO_8601 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d([.,]\d{1,9})?)?([Zz]|[+-]\d\d(:?\d\d)?)?")


@dataclass(frozen=True)
class ChatMessage:
    """One message of a chat, checked: the sender as text, the time aware."""

    user_id: str
    timestamp: datetime
    text: str


@dataclass(frozen=True)
class TalkMetadata:
    """Metadata that may be sent.

    :param fields: rendered values by key
    :param users: per-participant values, passed on as they are given: ``id``, ``role``, ``fields``
    :param warnings: what the connection's template may yet object to, with the remedy
    """

    connection_id: str
    fields: Mapping[str, str]
    users: tuple[Mapping[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()


def check_metadata(
    metadata: object,
    *,
    connection_id: str | None,
    users: object = None,
    kind: str = "audio",
    strict: bool = False,
) -> TalkMetadata:
    """Render and check the metadata of one talk.

    :param metadata: values by key: strings, booleans, numbers, aware datetimes, dicts or lists;
        a key whose value is None is left out
    :param users: a list of dicts with ``id``, ``role`` and ``fields``, one for each participant
    :param kind: ``audio``, ``badge`` or ``chat``: which template's keys to expect
    :param strict: make errors of what only templates ask for: their keys, a time zone in ``date``, a boolean
        as ``direction_outgoing``
    :raises InvalidMetadataError: with every fault found
    """
    faults: list[str] = []
    warnings: list[str] = []
    if not connection_id or not _is_utf8(str(connection_id)):
        faults.append(
            "no connection_id: give it to the operator, or as the default of the Airflow connection; "
            "the SpeechSense console shows it on the connection's page."
        )
    fields: dict[str, str] = {}
    if isinstance(metadata, Mapping):
        fields = _render_all(metadata, "", faults)
        if len(fields) > MAX_KEYS:
            faults.append(f"{len(fields)} keys, the service takes {MAX_KEYS}: leave some out.")
        doubts = [*_missing_keys(fields, kind), *_date_faults(metadata, faults), *_direction_doubt(fields)]
        (faults if strict else warnings).extend(doubts)
    else:
        faults.append(f"metadata is a {type(metadata).__name__}, not a mapping of keys to values.")
    rendered_users = _render_users(users, faults)
    if faults:
        raise InvalidMetadataError(faults)
    return TalkMetadata(str(connection_id), fields, rendered_users, tuple(warnings))


def check_chat(messages: object, fields: Mapping[str, str]) -> list[ChatMessage]:
    """Check the messages of a chat against the rendered metadata ``fields`` of its talk.

    :param messages: a list of dicts with ``user_id``, ``text`` and ``timestamp``, in ISO 8601 or aware
    :raises InvalidChatError: with every fault found
    """
    faults: list[str] = []
    senders = {fields[key]: key for key in SENDER_KEYS if fields.get(key)}
    if isinstance(messages, str | bytes | Mapping) or not isinstance(messages, Iterable):
        raise InvalidChatError([f"messages is a {type(messages).__name__}, not a list of messages."])
    checked = [_check_message(i, message, senders, faults) for i, message in enumerate(messages)]
    if not checked:
        faults.append("no messages: a chat needs at least one.")
    if faults:
        raise InvalidChatError(faults)
    return [message for message in checked if message]


def parse_time(text: str) -> datetime:
    """Parse ISO 8601 as the service documents it; the result is naive when the text names no zone.

    :raises ValueError: not such a text
    """
    if not _ISO_8601.fullmatch(text):
        raise ValueError(f"{text!r} is not like 2025-04-24T14:34:19Z or 2025-04-24T17:34:19.250+03:00")
    try:
        # datetime keeps microseconds; digits beyond them would be refused.
        return datetime.fromisoformat(re.sub(r"([.,]\d{6})\d+", r"\1", text.upper()))
    except ValueError as error:
        raise ValueError(f"{text!r} is no moment: {error}") from None


def format_time(moment: datetime) -> str:
    """Render a datetime as the service documents it: ``Z`` for UTC, else the offset."""
    offset = moment.utcoffset()
    if offset and offset.total_seconds() % 60:
        # A local mean time of long ago; the documented form has no seconds there.
        moment = moment.astimezone(UTC)
    text = moment.isoformat(timespec="milliseconds" if moment.microsecond else "seconds")
    return text.replace("+00:00", "Z")


def _render_all(values: Mapping[str, Any], where: str, faults: list[str]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for key, value in values.items():
        if not isinstance(key, str) or not key.strip() or not _is_utf8(key):
            faults.append(f"{where}the key {key!r} is not a name.")
        elif value is not None:
            try:
                fields[key] = _render(value)
            except ValueError as error:
                faults.append(f"{where}{key}: {error}.")
    return fields


def _render(value: Any) -> str:
    text = _text_of(value)
    if not _is_utf8(text):
        raise ValueError("holds half a surrogate pair, which is not text: mend it at its source")
    size = len(text.encode())
    if size > MAX_VALUE_BYTES:
        raise ValueError(f"{size} bytes of UTF-8, the service takes {MAX_VALUE_BYTES}: shorten it")
    return text


def _text_of(value: Any) -> str:
    for kind, render in _RENDERERS:
        if isinstance(value, kind):
            return render(value)
    raise ValueError(
        f"a {type(value).__name__} has no text form here: "
        "give a string, boolean, number, datetime, dict or list"
    )


def _number(value: float | Decimal) -> str:
    if not math.isfinite(value):
        raise ValueError(f"{value} is no number that the service takes")
    # Decimal of the shortest repr: never an exponent.
    return format(value if isinstance(value, Decimal) else Decimal(repr(float(value))), "f")


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"has no JSON form: {error}") from None


#: In this order: a bool is an int, a datetime is a date.
_RENDERERS: tuple[tuple[type | tuple[type, ...], Callable[[Any], str]], ...] = (
    (str, str.__str__),  # str() of an enum that is text gives its Python name
    (bool, lambda value: "true" if value else "false"),
    (int, str),
    ((float, Decimal), _number),
    (datetime, format_time),
    (date, date.isoformat),
    ((dict, list, tuple), _json),
)


def _missing_keys(fields: Mapping[str, str], kind: str) -> list[str]:
    missing = [key for key in TEMPLATE_KEYS[kind] if not fields.get(key)]
    if not missing:
        return []
    return [
        f"missing {', '.join(missing)}: the service's template for {kind} requires them. "
        "Add what your connection declares."
    ]


def _date_faults(metadata: Mapping[str, Any], faults: list[str]) -> list[str]:
    """Add to ``faults`` if ``date`` is no date; return the doubts about its zone."""
    value = metadata.get("date")
    if value is None:
        return []
    if isinstance(value, str):
        try:
            value = parse_time(value)
        except ValueError as error:
            faults.append(f"date: {error}.")
            return []
    if not isinstance(value, datetime):
        faults.append(
            f"date: {value!r} is no moment; give an aware datetime or text like 2025-04-24T14:34:19Z."
        )
        return []
    if value.tzinfo is None:
        return [
            f"date: {value.isoformat()} names no time zone, so the service may shift it. "
            "Add Z for UTC, or the offset."
        ]
    return []


def _direction_doubt(fields: Mapping[str, str]) -> list[str]:
    value = fields.get("direction_outgoing", "true")
    if value in ("true", "false"):
        return []
    return [f"direction_outgoing: {value!r} is no boolean; give true for an outgoing call, else false."]


def _render_users(users: object, faults: list[str]) -> tuple[Mapping[str, Any], ...]:
    if users is None:
        return ()
    if isinstance(users, str | bytes | Mapping) or not isinstance(users, Iterable):
        faults.append(f"users is a {type(users).__name__}, not a list.")
        return ()
    return tuple(_render_user(i, user, faults) for i, user in enumerate(users))


def _render_user(index: int, user: object, faults: list[str]) -> Mapping[str, Any]:
    where = f"users[{index}]: "
    if not isinstance(user, Mapping) or not user.get("id") or not _is_utf8(str(user["id"])):
        faults.append(f"{where}not a mapping with an id.")
        return {}
    if unknown := set(user) - {"id", "role", "fields"}:
        faults.append(f"{where}unknown key {', '.join(sorted(map(str, unknown)))}.")
    role = str(user.get("role") or "UNSPECIFIED").upper().removeprefix("USER_ROLE_")
    if role not in ("UNSPECIFIED", "OPERATOR", "CLIENT", "BOT"):
        faults.append(f"{where}role {user['role']!r} is none of operator, client, bot.")
    given = user.get("fields") or {}
    if not isinstance(given, Mapping):
        faults.append(f"{where}fields is a {type(given).__name__}, not a mapping of keys to values.")
        given = {}
    fields = _render_all(given, where, faults)
    return {"id": str(user["id"]), "role": f"USER_ROLE_{role}", "fields": fields}


def _check_message(
    index: int, message: object, senders: Mapping[str, str], faults: list[str]
) -> ChatMessage | None:
    where = f"message {index + 1}: "
    if not isinstance(message, Mapping):
        faults.append(f"{where}a {type(message).__name__}, not a dict with user_id, timestamp and text.")
        return None
    before = len(faults)
    unknown = set(message) - {"user_id", "timestamp", "text"}
    if unknown:
        faults.append(f"{where}unknown key {', '.join(sorted(map(str, unknown)))}.")
    # Ids are often numbers in the source and text in the metadata.
    sender = str(message.get("user_id", ""))
    if sender not in senders:
        known = ", ".join(f"{key} {value!r}" for value, key in senders.items()) or "none is given"
        faults.append(f"{where}the sender {sender!r} is none of the metadata's ids ({known}).")
    text = message.get("text")
    if not isinstance(text, str):
        faults.append(f"{where}text is {text!r}, not a string.")
    elif not _is_utf8(text):
        faults.append(f"{where}text holds half a surrogate pair, which is not text: mend it at its source.")
    timestamp = _chat_time(message.get("timestamp"), where, faults)
    if len(faults) > before or timestamp is None or not isinstance(text, str):
        return None
    return ChatMessage(sender, timestamp, text)


def _chat_time(value: Any, where: str, faults: list[str]) -> datetime | None:
    if isinstance(value, str):
        try:
            value = parse_time(value)
        except ValueError as error:
            faults.append(f"{where}timestamp {error}.")
            return None
    if not isinstance(value, datetime):
        faults.append(f"{where}timestamp is {value!r}, not a datetime or text like 2025-04-24T14:34:19.100Z.")
        return None
    if value.tzinfo is None:
        faults.append(
            f"{where}timestamp {value.isoformat()} names no time zone: add Z for UTC, or the offset."
        )
        return None
    try:
        return value.astimezone(UTC)
    except OverflowError:
        faults.append(f"{where}timestamp {value.isoformat()} is not between the years 1 and 9999 in UTC.")
        return None


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
