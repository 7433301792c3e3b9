"""Search: filters, full text, sorting and paging over the talks there are."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from airflow_provider_speechsense.api import protos
from airflow_provider_speechsense.emulator import chats
from airflow_provider_speechsense.emulator.answers import once
from airflow_provider_speechsense.emulator.connections import FieldType
from airflow_provider_speechsense.emulator.refusal import invalid
from airflow_provider_speechsense.emulator.search_keys import SearchKey, search_key
from airflow_provider_speechsense.emulator.settings import EmulatorSettings
from airflow_provider_speechsense.emulator.store import StoredTalk
from airflow_provider_speechsense.emulator.values import PARSERS, Value

#: Ids on a page when the request does not say.
DEFAULT_PAGE = 100
#: The service allows pages of 1 to this many.
MAX_PAGE = 1000

_Condition = Callable[[StoredTalk], bool]
_KeyOf = Callable[[str], SearchKey]

#: How metadata, which is text, is read for each kind of range.
_READ_AS = {
    "int_range": FieldType.NUMBER,
    "double_range": FieldType.DECIMAL,
    "date_range": FieldType.DATE,
    "boolean_match": FieldType.BOOLEAN,
}


def search(request: Any, talks: Sequence[StoredTalk], settings: EmulatorSettings, now: float) -> Any:
    """Answer a SearchTalkRequest.

    :param talks: those in its scope, oldest first
    :raises Refusal: an unknown key, a filter that does not fit its key, a page that is none
    """
    connection = settings.connections.get(request.connection_id)

    def key_of(name: str) -> SearchKey:
        return search_key(name, connection, settings, now)

    size = request.page_size or DEFAULT_PAGE
    if not 1 <= size <= MAX_PAGE:
        raise invalid(f"page_size is {size}, allowed are 1..{MAX_PAGE}")
    begin = _read_token(request)
    conditions = [_condition(filter_, key_of) for filter_ in request.filters]
    if request.query.text:
        conditions.append(_query(request.query, settings))
    found = [talk for talk in reversed(talks) if all(condition(talk) for condition in conditions)]
    found.sort(key=lambda talk: talk.created_at, reverse=True)
    # Sorting is stable: the field that decides first is sorted by last.
    for field in sorted(request.sort_data.fields, key=lambda field: field.position)[::-1]:
        _sort(found, key_of(field.field), downwards=field.order == _DESCENDING)
    total = len(found)
    del found[settings.max_search_results :]
    end = begin + size
    return protos.speechsense.SearchTalkResponse(
        talk_ids=[talk.id for talk in found[begin:end]],
        talks_count=len(found) if settings.talks_count_capped else total,
        next_page_token=_write_token(request, end) if end < len(found) else "",
    )


_DESCENDING = protos.speechsense.SortOrder.Value("SORT_ORDER_DESC")


def _condition(filter_: Any, key_of: _KeyOf) -> _Condition:
    key = key_of(filter_.key)
    kind = filter_.WhichOneof("filter")
    if kind is None:
        raise invalid(f"the filter on {filter_.key!r} has no condition")
    if kind not in key.filters:
        fitting = ", ".join(key.filters)
        raise invalid(f"a filter {kind} does not fit the key {filter_.key!r}; fitting are: {fitting}")
    matches = _MATCHERS[kind](getattr(filter_, kind))
    channel = filter_.channel_number.value if filter_.HasField("channel_number") else None

    def holds(talk: StoredTalk) -> bool:
        values = (_read(value, kind) for value in key.values(talk, channel))
        return any(value is not None and matches(value) for value in values) is not filter_.inverse

    return holds


def _read(value: Value, kind: str) -> Value | None:
    if not isinstance(value, str) or kind not in _READ_AS:
        return value
    try:
        return PARSERS[_READ_AS[kind]](value)
    except ValueError:
        return None


def _any_match(match: Any) -> Callable[[Any], bool]:
    wanted = frozenset(match.values)
    return lambda value: value in wanted


def _boolean_match(match: Any) -> Callable[[Any], bool]:
    return lambda value: value is match.value


def _range(bounds: Any) -> Callable[[Any], bool]:
    low = _bound(bounds.from_value) if bounds.HasField("from_value") else None
    high = _bound(bounds.to_value) if bounds.HasField("to_value") else None
    inclusive = bounds.bounds_inclusive

    def holds(value: Any) -> bool:
        above = low is None or value > low or (inclusive.from_inclusive and value == low)
        below = high is None or value < high or (inclusive.to_inclusive and value == high)
        return above and below

    return holds


def _bound(value: Any) -> float | int:
    """Return a wrapped number as it is, a Timestamp or Duration in seconds."""
    if value.DESCRIPTOR.name in ("Timestamp", "Duration"):
        # The way datetime does it, so that equal times are equal numbers.
        seconds: float = (value.seconds * 1_000_000 + value.nanos // 1000) / 1_000_000
        return seconds
    number: float | int = value.value
    return number


_MATCHERS: Mapping[str, Callable[[Any], Callable[[Any], bool]]] = {
    "any_match": _any_match,
    "int_range": _range,
    "double_range": _range,
    "date_range": _range,
    "duration_range": _range,
    "boolean_match": _boolean_match,
}


def _query(query: Any, settings: EmulatorSettings) -> _Condition:
    wanted = {word.casefold() for word in chats.words(query.text)}
    channel = None
    if query.HasField("channel_number"):
        channel = query.channel_number.value - settings.query_channel_base

    def holds(talk: StoredTalk) -> bool:
        said = once(talk, "words", lambda: _words_by_channel(talk))
        heard = frozenset().union(*said.values()) if channel is None else said.get(channel, frozenset())
        return (talk.is_chat and wanted <= heard) is not query.inverse

    return holds


def _words_by_channel(talk: StoredTalk) -> dict[int, frozenset[str]]:
    said: dict[int, set[str]] = {}
    for message in talk.messages:
        said.setdefault(message.channel, set()).update(map(str.casefold, chats.words(message.text)))
    return {channel: frozenset(words) for channel, words in said.items()}


def _sort(talks: list[StoredTalk], key: SearchKey, *, downwards: bool) -> None:
    values = {talk.id: _sortable(key, talk) for talk in talks}
    # Talks without a value come last either way.
    talks.sort(key=lambda talk: values[talk.id] or (), reverse=downwards)
    talks.sort(key=lambda talk: values[talk.id] is None)


def _sortable(key: SearchKey, talk: StoredTalk) -> tuple[int, Value] | None:
    values = key.values(talk, None)
    if not values:
        return None
    if not isinstance(values[0], str):
        return 0, values[0]
    # What is not declared is taken for what it looks like.
    types = (key.type,) if key.type else (FieldType.DECIMAL, FieldType.DATE)
    for place, kind in enumerate(types):
        try:
            return place, PARSERS[kind](values[0])
        except ValueError:
            continue
    return len(types), values[0]


def _write_token(request: Any, begin: int) -> str:
    return base64.urlsafe_b64encode(json.dumps([begin, _fingerprint(request)]).encode()).decode()


def _read_token(request: Any) -> int:
    if not request.page_token:
        return 0
    try:
        begin, fingerprint = json.loads(base64.urlsafe_b64decode(request.page_token))
    except (ValueError, TypeError) as error:
        raise invalid("page_token is none of this service's") from error
    if fingerprint != _fingerprint(request):
        raise invalid("page_token belongs to a request with other filters")
    return int(begin)


def _fingerprint(request: Any) -> str:
    """Return what all pages of one search have in common."""
    same = type(request)()
    same.CopyFrom(request)
    same.ClearField("page_token")
    same.ClearField("page_size")
    return hashlib.sha256(same.SerializeToString(deterministic=True)).hexdigest()[:16]
