"""Search: filters of every kind, full text, sorting and paging."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from airflow_provider_speechsense.emulator import Connection, ConnectionType, FieldType, Key
from tests.emulator.support import SAMPLES, Bench, Serve, messages, tone, wav


def filter_on(key: str, **condition: Any) -> dict[str, Any]:
    return {"key": key, **condition}


def int_range(low: int | None = None, high: int | None = None, **inclusive: bool) -> dict[str, Any]:
    bounds = {"from_value": low, "to_value": high}
    given = {name: {"value": value} for name, value in bounds.items() if value is not None}
    return {"int_range": {**given, "bounds_inclusive": inclusive}}


def refusal_of(bench: Bench, *filters: Mapping[str, Any], **request: Any) -> str:
    message = messages.SearchTalkRequest(filters=[messages.Filter(**each) for each in filters], **request)
    code, text = bench.refused("TalkService/Search", message)
    assert code == "INVALID_ARGUMENT"
    return text


# Metadata


def test_without_conditions_everything_is_found_newest_first(bench: Bench) -> None:
    first, second = bench.upload(), bench.upload()
    bench.clock.advance(1)
    third = bench.upload()
    assert bench.search() == [third, second, first]


def test_any_match_is_one_of_several_values(bench: Bench) -> None:
    ids = {name: bench.upload(ticket_id=name) for name in ("1", "2", "3")}
    bench.upload()
    condition = filter_on("userMeta.ticket_id", any_match={"values": ["1", "3"]})
    assert set(bench.search(condition)) == {ids["1"], ids["3"]}


def test_inverse_finds_all_the_others_and_those_without_a_value(bench: Bench) -> None:
    bench.upload(ticket_id="1")
    other, without = bench.upload(ticket_id="2"), bench.upload()
    condition = filter_on("userMeta.ticket_id", any_match={"values": ["1"]}, inverse=True)
    assert set(bench.search(condition)) == {other, without}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (int_range(2, 4), {3}),
        (int_range(2, 4, from_inclusive=True), {2, 3}),
        (int_range(2, 4, to_inclusive=True), {3, 4}),
        (int_range(2, 4, from_inclusive=True, to_inclusive=True), {2, 3, 4}),
        (int_range(3), {4, 5}),
        (int_range(None, 3), {1, 2}),
        ({"double_range": {"from_value": {"value": 2.5}, "to_value": {"value": 4.5}}}, {3, 4}),
    ],
)
def test_a_range_leaves_out_its_bounds_unless_told_otherwise(
    bench: Bench, condition: dict[str, Any], expected: set[int]
) -> None:
    scores = {bench.upload(score=str(score)): score for score in range(1, 6)}
    bench.upload(score="none")
    bench.upload()
    assert {scores[each] for each in bench.search(filter_on("userMeta.score", **condition))} == expected


def test_dates_are_compared_as_times(bench: Bench) -> None:
    inside = bench.upload(date="2025-04-30T23:30:00+03:00")
    first_moment = bench.upload(date="2025-04-01T00:00:00.100Z")
    bench.upload(date="2025-05-01T01:30:00Z")
    bench.upload(date="yesterday")
    since, until = messages.DateRangeFilter(), messages.DateRangeFilter()
    since.from_value.FromJsonString("2025-04-01T00:00:00.100Z")
    since.bounds_inclusive.from_inclusive = True
    until.to_value.FromJsonString("2025-05-01T00:00:00Z")
    found = bench.search(
        filter_on("userMeta.date", date_range=since), filter_on("userMeta.date", date_range=until)
    )
    assert set(found) == {inside, first_moment}


def test_booleans_are_matched(bench: Bench) -> None:
    outgoing, incoming = bench.upload(direction_outgoing="true"), bench.upload(direction_outgoing="false")
    bench.upload()
    for value, expected in ((True, outgoing), (False, incoming)):
        condition = filter_on("userMeta.direction_outgoing", boolean_match={"value": value})
        assert bench.search(condition) == [expected]


def test_a_channel_restricts_metadata_to_that_participant(bench: Bench) -> None:
    client = messages.UserMetadata(id="7", role="USER_ROLE_CLIENT", fields={"mood": "bad"})
    talk_id = bench.upload(users=[client])
    bench.upload(mood="bad")
    mood = filter_on("userMeta.mood", any_match={"values": ["bad"]})
    assert bench.search({**mood, "channel_number": {"value": 1}}) == [talk_id]
    assert bench.search({**mood, "channel_number": {"value": 0}}) == []


def test_the_upload_time_can_be_filtered_by(bench: Bench) -> None:
    bench.upload()
    bench.clock.advance(100)
    talk_id = bench.upload()
    since = messages.DateRangeFilter()
    since.from_value.FromSeconds(int(bench.clock()) - 50)
    assert bench.search(filter_on("system.created_at", date_range=since)) == [talk_id]


def test_the_prefix_of_the_comment_is_a_switch(serve: Serve) -> None:
    bench = serve(user_prefix_accepted=True)
    talk_id = bench.upload(ticket_id="1")
    condition = filter_on("user.ticket_id", any_match={"values": ["1"]})
    assert bench.search(condition) == [talk_id]
    assert refusal_of(serve(), condition) == "unknown key 'user.ticket_id'"


def test_scope_ids_restrict_the_search(serve: Serve) -> None:
    bench = serve(project_id="p1")
    talk_id = bench.upload(connection_id="c1")
    bench.upload(connection_id="c2")
    assert bench.search(connection_id="c1", project_id="p1") == [talk_id]
    assert bench.search(project_id="p2") == []


# Wrong keys and filters


@pytest.mark.parametrize(
    "key",
    [
        "date",
        "userMeta.",
        "talk.statistics.words",
        "talk.classifiers.complaint.count",
        "talk.classifiers..count",
        "",
    ],
)
def test_an_unknown_key_is_refused_by_name(bench: Bench, key: str) -> None:
    assert refusal_of(bench, filter_on(key, **int_range(1))) == f"unknown key {key!r}"
    assert refusal_of(bench, sort_data={"fields": [{"field": key}]}) == f"unknown key {key!r}"


@pytest.mark.parametrize(
    ("key", "condition"),
    [
        ("talk.statistics.duration_seconds", {"any_match": {"values": ["1"]}}),
        ("talk.statistics.speech.ratio", int_range(1)),
        ("system.created_at", int_range(1)),
        ("userMeta.date", {"duration_range": {}}),
        ("analysis.speechkit.duration", int_range(1)),
        ("talk.summarization.points.7", int_range(1)),
    ],
)
def test_a_filter_that_does_not_fit_its_key_is_refused(
    bench: Bench, key: str, condition: dict[str, Any]
) -> None:
    assert f"does not fit the key {key!r}" in refusal_of(bench, filter_on(key, **condition))


def test_a_filter_needs_a_condition(bench: Bench) -> None:
    assert refusal_of(bench, {"key": "userMeta.date"}) == "the filter on 'userMeta.date' has no condition"


def test_declared_types_bind_the_filters(serve: Serve) -> None:
    keys = {"date": Key(FieldType.DATE), "score": Key(FieldType.NUMBER), "vip": Key(FieldType.BOOLEAN)}
    bench = serve(connections={"c1": Connection(ConnectionType.ONE_CHANNEL, keys)})
    talk_id = bench.upload(score="4", vip="true")
    assert bench.search(filter_on("userMeta.score", **int_range(3)), connection_id="c1") == [talk_id]
    assert bench.search(filter_on("userMeta.score", any_match={"values": ["4"]}), connection_id="c1") == [
        talk_id
    ]
    wrong = filter_on("userMeta.vip", **int_range(1))
    assert "fitting are: any_match, boolean_match" in refusal_of(bench, wrong, connection_id="c1")
    unknown = filter_on("userMeta.mood", any_match={"values": ["bad"]})
    assert "does not declare it" in refusal_of(bench, unknown, connection_id="c1")


# Statistics and classifiers


def duration_range(seconds: int) -> dict[str, Any]:
    return {"duration_range": {"from_value": {"seconds": seconds}}}


@pytest.mark.parametrize(
    ("key", "condition"),
    [
        ("duration_seconds", int_range(24, 26)),
        ("simultaneous_speech.duration_seconds", int_range(0, 2)),
        ("simultaneous_speech.max_duration_seconds", int_range(0, 2)),
        ("simultaneous_speech.ratio", {"double_range": {"from_value": {"value": 0.02}}}),
        ("simultaneous_silence.duration_seconds", int_range(5, 10)),
        ("simultaneous_silence.max_duration_seconds", int_range(1, 3)),
        ("simultaneous_silence.ratio", {"double_range": {"from_value": {"value": 0.15}}}),
        ("speech.duration_seconds", {**int_range(10, 15), "channel_number": {"value": 0}}),
        ("speech.duration_seconds", int_range(13)),
        ("speech.ratio", {"double_range": {"from_value": {"value": 0.2}}, "channel_number": {"value": 1}}),
        ("silence.duration_seconds", {**int_range(15, 25), "channel_number": {"value": 1}}),
        ("silence.ratio", {"double_range": {"from_value": {"value": 0.4}}}),
        ("interrupts.count", int_range(0, 2)),
        ("interrupts.count", {**int_range(0, 2), "channel_number": {"value": 1}}),
        ("interrupts.duration_seconds", {**int_range(1, 1, from_inclusive=True, to_inclusive=True)}),
    ],
)
def test_calls_are_found_by_their_statistics(bench: Bench, key: str, condition: dict[str, Any]) -> None:
    condition = filter_on(f"talk.statistics.{key}", **condition)
    talk_id = bench.upload((SAMPLES / "call.wav").read_bytes())
    bench.upload(wav([tone((100, 0), (900, 5000))]))
    assert bench.search(condition) == [], "the statistics are not there yet"
    bench.clock.advance(10)
    assert bench.search(condition) == [talk_id]


def test_calls_are_found_by_the_recognisers_duration(bench: Bench) -> None:
    talk_id = bench.upload((SAMPLES / "call.wav").read_bytes())
    bench.upload()
    bench.upload_chat((0, "cl", "hello"))
    assert bench.search(filter_on("analysis.speechkit.duration", **duration_range(25))) == [talk_id]


@pytest.mark.parametrize(
    ("key", "condition"),
    [
        ("duration_seconds", int_range(9, 11)),
        ("phrases.count", int_range(2, 4)),
        ("phrases.count", {**int_range(1, 3), "channel_number": {"value": 1}}),
        ("words.count", int_range(4, 6)),
        ("letters.count", {**int_range(4, 6), "channel_number": {"value": 0}}),
        ("reactions.count", int_range(1, 3)),
        ("reactions.count", {**int_range(0, 2), "channel_number": {"value": 0}}),
        ("reactions.first_duration_seconds", {**int_range(2, 4), "channel_number": {"value": 0}}),
        ("reactions.min_duration_seconds", int_range(2, 4)),
        ("reactions.max_duration_seconds", int_range(6, 8)),
    ],
)
def test_chats_are_found_by_their_statistics(bench: Bench, key: str, condition: dict[str, Any]) -> None:
    talk_id = bench.upload_chat((0, "cl", "hi there"), (3, "op", "hello"), (10, "cl", "where is"))
    bench.upload_chat((0, "cl", "hm"))
    bench.clock.advance(10)
    assert bench.search(filter_on(f"talk.statistics.{key}", **condition)) == [talk_id]


def test_what_is_not_computed_matches_nothing(bench: Bench) -> None:
    bench.upload()
    bench.upload((SAMPLES / "call.wav").read_bytes())
    bench.clock.advance(10)
    rate = {"double_range": {"from_value": {"value": -1}}}
    assert bench.search(filter_on("talk.statistics.words.count_per_second", **rate)) == []
    assert bench.search(filter_on("talk.summarization.points.7", boolean_match={})) == []
    assert bench.search(filter_on("talk.statistics.words.count", **int_range(-1))) == []


def test_talks_are_found_by_their_tags(serve: Serve) -> None:
    bench = serve(classifiers={"complaint": ["late"], "other": ["x"]})
    talk_id = bench.upload_chat((0, "cl", "late, late"), (1, "op", "not late"))
    bench.upload_chat((0, "cl", "hello"))
    bench.upload()
    condition = filter_on("talk.classifiers.complaint.count", **int_range(0))
    assert bench.search(condition) == []
    bench.clock.advance(10)
    assert bench.search(condition) == [talk_id]
    assert bench.search(filter_on("talk.classifiers.complaint.count", **int_range(2))) == [talk_id]
    assert bench.search({**condition, "channel_number": {"value": 0}}) == [talk_id]
    assert bench.search({**condition, **int_range(1), "channel_number": {"value": 0}}) == []
    assert bench.search({**condition, "channel_number": {"value": 2}}) == []


# Full text


@pytest.fixture
def chats(bench: Bench) -> dict[str, str]:
    return {
        "refund": bench.upload_chat((0, "cl", "I want a REFUND, now"), (1, "op", "which order?")),
        "order": bench.upload_chat((0, "cl", "my order"), (1, "op", "refund was sent")),
        "call": bench.upload(),
    }


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"text": "refund"}, {"refund", "order"}),
        ({"text": "Refund  Order"}, {"refund", "order"}),
        ({"text": "refund sent"}, {"order"}),
        ({"text": "ref"}, set()),
        ({"text": "refund", "channel_number": {"value": 1}}, {"refund"}),
        ({"text": "refund", "channel_number": {"value": 2}}, set()),
        ({"text": "sent", "inverse": True}, {"refund", "call"}),
        ({"text": ""}, {"refund", "order", "call"}),
    ],
)
def test_full_text_asks_for_all_words(
    bench: Bench, chats: dict[str, str], query: dict[str, Any], expected: set[str]
) -> None:
    names = {talk_id: name for name, talk_id in chats.items()}
    assert {names[talk_id] for talk_id in bench.search(query=query)} == expected


def test_where_channels_of_a_query_begin_is_a_switch(serve: Serve) -> None:
    bench = serve(query_channel_base=1)
    talk_id = bench.upload_chat((0, "cl", "hello"))
    assert bench.search(query={"text": "hello", "channel_number": {"value": 2}}) == [talk_id]
    assert bench.search(query={"text": "hello", "channel_number": {"value": 1}}) == []


# Sorting


def sort_by(*fields: tuple[str, str]) -> dict[str, Any]:
    return {
        "fields": [{"field": f"userMeta.{name}", "order": f"SORT_ORDER_{order}"} for name, order in fields]
    }


def test_sorting_puts_talks_without_a_value_last(bench: Bench) -> None:
    ten, nine, none = bench.upload(score="10"), bench.upload(score="9"), bench.upload()
    assert bench.search(sort_data=sort_by(("score", "ASC"))) == [nine, ten, none]
    assert bench.search(sort_data=sort_by(("score", "DESC"))) == [ten, nine, none]
    assert bench.search(sort_data=sort_by(("score", "UNSPECIFIED"))) == [nine, ten, none]


def test_undeclared_values_are_sorted_as_what_they_look_like(bench: Bench) -> None:
    later = bench.upload(x="2025-04-24T10:00:00+03:00")
    earlier = bench.upload(x="2025-04-24T06:00:00Z")
    text = bench.upload(x="abc")
    number = bench.upload(x="7")
    assert bench.search(sort_data=sort_by(("x", "ASC"))) == [number, earlier, later, text]


def test_declared_strings_are_sorted_as_text(serve: Serve) -> None:
    bench = serve(connections={"c1": Connection(ConnectionType.ONE_CHANNEL, {"x": Key()})})
    ten, nine = bench.upload(x="10"), bench.upload(x="9")
    assert bench.search(connection_id="c1", sort_data=sort_by(("x", "ASC"))) == [ten, nine]


def test_several_fields_sort_by_their_position(bench: Bench) -> None:
    b1, a2, a1 = bench.upload(k="b", n="1"), bench.upload(k="a", n="2"), bench.upload(k="a", n="1")
    assert bench.search(sort_data=sort_by(("k", "ASC"), ("n", "DESC"))) == [a2, a1, b1]
    data = sort_by(("k", "ASC"), ("n", "DESC"))
    data["fields"][0]["position"] = 1
    assert bench.search(sort_data=data) == [a2, a1, b1]
    data["fields"][1]["order"] = "SORT_ORDER_ASC"
    assert bench.search(sort_data=data) == [a1, b1, a2]


def test_statistics_can_be_sorted_by(bench: Bench) -> None:
    short, long = bench.upload(wav([tone((1000, 5000))])), bench.upload(wav([tone((3000, 5000))]))
    bench.clock.advance(10)
    fields = [{"field": "talk.statistics.duration_seconds", "order": "SORT_ORDER_DESC"}]
    assert bench.search(sort_data={"fields": fields}) == [long, short]


# Paging


def page(bench: Bench, **request: Any) -> Any:
    return bench.call("TalkService/Search", messages.SearchTalkRequest(**request))


def test_pages_follow_one_another_to_the_end(bench: Bench) -> None:
    ids = [bench.upload_chat((0, "cl", "hello")) for _ in range(7)]
    found, token, pages = [], "", 0
    while pages == 0 or token:
        answer = page(bench, page_size=3, page_token=token, query={"text": "hello"})
        assert answer.talks_count == 7
        found += answer.talk_ids
        token, pages = answer.next_page_token, pages + 1
    assert (found, pages) == (ids[::-1], 3)


def test_a_page_has_100_ids_by_default_and_1000_at_most(bench: Bench) -> None:
    for _ in range(101):
        bench.upload_chat((0, "cl", "hello"))
    answer = page(bench)
    assert (len(answer.talk_ids), answer.talks_count) == (100, 101)
    assert answer.next_page_token
    assert len(page(bench, page_size=1000).talk_ids) == 101
    for size in (-1, 1001):
        assert refusal_of(bench, page_size=size) == f"page_size is {size}, allowed are 1..1000"


def test_a_page_token_belongs_to_its_request(bench: Bench) -> None:
    for _ in range(3):
        bench.upload()
    token = page(bench, page_size=1).next_page_token
    assert len(page(bench, page_size=2, page_token=token).talk_ids) == 2
    assert "other filters" in refusal_of(bench, page_token=token, connection_id="c1")
    for wrong in ("x", "жук", "eHh4", token[4:]):
        assert refusal_of(bench, page_token=wrong) == "page_token is none of this service's"


def test_one_query_gives_only_so_many_results(serve: Serve) -> None:
    bench = serve(max_search_results=3)
    ids = [bench.upload() for _ in range(5)]
    first = page(bench, page_size=2)
    second = page(bench, page_size=2, page_token=first.next_page_token)
    assert [*first.talk_ids, *second.talk_ids] == ids[:1:-1]
    assert second.next_page_token == ""
    assert first.talks_count == 5
    capped = serve(max_search_results=3, talks_count_capped=True)
    for _ in range(5):
        capped.upload()
    assert page(capped).talks_count == 3
