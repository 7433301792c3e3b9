"""Searches, masks and ids are checked before anything is sent, and pages are read to the end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_provider_speechsense.api import protos
from airflow_provider_speechsense.api.search import (
    check_mask,
    check_talk_ids,
    pages,
    search_request,
)
from airflow_provider_speechsense.exceptions import InvalidRequestError

KEY = "userMeta.score"


def violations(check: Callable[..., Any], *args: Any, **options: Any) -> tuple[str, ...]:
    with pytest.raises(InvalidRequestError, match="nothing was sent") as caught:
        check(*args, **options)
    return caught.value.violations


def filter_faults(*filters: Any) -> tuple[str, ...]:
    return violations(search_request, {}, filters=filters)


# --- filters


@pytest.mark.parametrize(
    ("condition", "wire"),
    [
        ({"any_match": {"values": ["123", "345"]}}, {"any_match": {"values": ["123", "345"]}}),
        ({"int_range": {"from_value": "1"}}, {"int_range": {"from_value": {"value": 1}}}),
        ({"double_range": {"to_value": 0.5}}, {"double_range": {"to_value": {"value": 0.5}}}),
        (
            {"date_range": {"from_value": "2025-04-01T00:00:00Z"}},
            {"date_range": {"from_value": {"seconds": 1_743_465_600}}},
        ),
        ({"duration_range": {"to_value": 90}}, {"duration_range": {"to_value": {"seconds": 90}}}),
        ({"boolean_match": {"value": False}}, {"boolean_match": {"value": False}}),
    ],
    ids=lambda condition: next(iter(condition)),
)
def test_each_kind_of_filter_reaches_the_wire(condition: dict[str, Any], wire: dict[str, Any]) -> None:
    given = {"key": KEY, "inverse": True, "channel_number": 0, **condition}
    (built,) = search_request({}, filters=[given]).filters
    kind = next(iter(wire))
    assert built.WhichOneof("filter") == kind
    assert built.key == KEY
    assert built.inverse
    assert built.HasField("channel_number")
    if kind.endswith("_range"):
        wire[kind]["bounds_inclusive"] = {}
    expected = protos.speechsense.Filter(key=KEY, inverse=True, channel_number={"value": 0}, **wire)
    assert built == expected


@pytest.mark.parametrize(
    "inclusive", [{}, {"from_inclusive": True}, {"from_inclusive": True, "to_inclusive": True}]
)
def test_a_range_says_of_each_bound_whether_it_is_in(inclusive: dict[str, bool]) -> None:
    bounds = {"from_value": 1, "to_value": 1, "bounds_inclusive": inclusive}
    sent = search_request({}, filters=[{"key": KEY, "int_range": bounds}]).filters[0].int_range
    assert sent.HasField("bounds_inclusive")
    assert sent.bounds_inclusive == protos.speechsense.BoundsInclusive(**inclusive)


@pytest.mark.parametrize(
    "key",
    [
        "userMeta.date",
        "user.date",
        "talk.classifiers.злость и грубость.count",
        "talk.summarization.points.7",
        "talk.statistics.speech.ratio",
        "system.created_at",
        "analysis.speechkit.duration",
    ],
)
def test_documented_keys_are_known(key: str) -> None:
    assert search_request({}, filters=[{"key": key, "boolean_match": {"value": True}}]).filters[0].key == key


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        (
            {"key": "talk.statistics.phrase.count", "int_range": {"from_value": 1}},
            "filters[0].key 'talk.statistics.phrase.count' is unknown: did you mean talk.statistics.",
        ),
        (
            {"key": "ticket", "boolean_match": {"value": True}},
            "filters[0].key 'ticket' is unknown: known are analysis.speechkit.duration",
        ),
        ({"boolean_match": {"value": True}}, "filters[0] has no key."),
        ({"key": KEY}, f"filters[0] ({KEY}) has no condition: give one of any_match, int_range, "),
        ({"key": KEY, "int_rnage": {}}, "filters[0].int_rnage is unknown: did you mean int_range?"),
        (
            {"key": KEY, "int_range": {"from": 1}},
            "filters[0].int_range.from is unknown: known are bounds_inclusive, from_value, to_value.",
        ),
        ({"key": KEY, "any_match": {"values": []}}, "filters[0].any_match has no values."),
        ({"key": KEY, "int_range": {}}, "filters[0].int_range has neither from_value nor to_value."),
        (
            {"key": KEY, "int_range": {"from_value": 2, "to_value": 1}},
            "filters[0].int_range: from_value is greater than to_value.",
        ),
        (
            {
                "key": KEY,
                "date_range": {"from_value": "2025-05-01T00:00:00Z", "to_value": "2025-04-01T00:00:00Z"},
            },
            "filters[0].date_range: from_value is greater than to_value.",
        ),
        ("userMeta.date > 5", "filters[0] is 'userMeta.date > 5', not a dict."),
    ],
)
def test_a_faulty_filter_is_named_with_the_key_that_is_wrong(given: Any, fault: str) -> None:
    (found,) = filter_faults(given)
    assert found.startswith(fault)


@pytest.mark.parametrize("filters", [{"key": KEY}, "userMeta.date", 5])
def test_filters_are_a_list(filters: Any) -> None:
    (found,) = violations(search_request, {}, filters=filters)
    assert found == f"filters is {filters!r}, not a list."


def test_all_faults_of_a_search_are_in_one_error() -> None:
    found = violations(
        search_request, {}, filters=[{}, {"key": "x"}], query={"inverse": True}, sort=[{"order": "ASC"}]
    )
    assert len(found) == 6
    assert found[-2:] == ("query has no text.", "sort[0] has no field.")


# --- the rest of a search


def test_a_search_has_its_scope_and_text() -> None:
    request = search_request({"space_id": "s1"}, query="refund")
    assert (request.space_id, request.query.text) == ("s1", "refund")
    query = {"text": "refund", "inverse": True, "channel_number": 1}
    request = search_request({}, query=query)
    assert request.query.inverse
    assert request.query.channel_number.value == 1


def test_without_text_no_query_is_sent() -> None:
    assert not search_request({}, query="").HasField("query")


def test_sorting_is_by_names_or_dicts_in_order_of_priority() -> None:
    request = search_request(
        {}, sort=["-userMeta.date", "userMeta.a", {"field": "userMeta.b", "order": "desc"}]
    )
    found = [(f.field, f.order, f.position) for f in request.sort_data.fields]
    assert found == [("userMeta.date", 2, 0), ("userMeta.a", 1, 1), ("userMeta.b", 2, 2)]


def test_a_page_is_not_larger_than_what_is_wanted() -> None:
    assert search_request({}).page_size == 1000
    assert search_request({}, limit=5).page_size == 5
    assert search_request({}, limit=5000, page_size=200).page_size == 200


@pytest.mark.parametrize(
    "options", [{"page_size": 0}, {"page_size": 1001}, {"page_size": True}, {"limit": 0}, {"limit": "ten"}]
)
def test_sizes_out_of_range_are_refused(options: dict[str, Any]) -> None:
    (found,) = violations(search_request, {}, **options)
    name, value = next(iter(options.items()))
    assert found.startswith(f"{name} is {value!r}: give ")


# --- pages


class Pages:
    """Answers with the pages given, one a call, and remembers the tokens it was asked with."""

    def __init__(self, *answers: list[str], count: int = 0) -> None:
        self.answers = answers
        self.count = count
        self.tokens: list[str] = []

    def __call__(self, request: Any) -> Any:
        self.tokens.append(request.page_token)
        number = len(self.tokens)
        more = f"page {number + 1}" if number < len(self.answers) else ""
        return protos.speechsense.SearchTalkResponse(
            talk_ids=self.answers[number - 1], next_page_token=more, talks_count=self.count
        )


def found(answers: Pages, limit: int | None = None) -> Iterator[str]:
    return pages(answers, protos.speechsense.SearchTalkRequest(), limit)


def test_pages_are_read_to_the_end_and_an_id_that_comes_twice_is_given_once() -> None:
    answers = Pages(["a", "b"], ["b", "b", "c"], [], ["d", "a"])
    assert list(found(answers)) == ["a", "b", "c", "d"]
    assert answers.tokens == ["", "page 2", "page 3", "page 4"]


@pytest.mark.parametrize(("limit", "calls"), [(1, 1), (2, 1), (3, 2)])
def test_a_limit_ends_the_reading(limit: int, calls: int) -> None:
    answers = Pages(["a", "b"], ["c", "d"], ["e"])
    assert list(found(answers, limit)) == ["a", "b", "c"][:limit]
    assert len(answers.tokens) == calls


def test_a_page_is_asked_for_only_when_it_is_needed() -> None:
    answers = Pages(["a", "b"], ["c"])
    ids = found(answers)
    assert [next(ids), next(ids)] == ["a", "b"]
    assert len(answers.tokens) == 1


@pytest.mark.parametrize(
    ("count", "limit", "warned"),
    [(9_999, None, 0), (10_000, None, 1), (20_000, 10_001, 1), (20_000, 10_000, 0)],
)
def test_more_matches_than_the_service_gives_are_warned_of_once(
    count: int, limit: int | None, warned: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        list(found(Pages(["a"], ["b"], count=count), limit))
    assert len([r for r in caplog.records if "narrow it" in r.message]) == warned


# --- masks


def test_no_mask_an_empty_one_and_a_given_one_are_three_things() -> None:
    assert check_mask(None) is None
    assert check_mask([]) == []
    assert check_mask(["talk_state", "transcription.phrases"]) == ["talk_state", "transcription.phrases"]


def test_a_mask_may_be_a_text_with_commas() -> None:
    assert check_mask("transcription, talk_state") == ["transcription", "talk_state"]


@pytest.mark.parametrize(
    ("mask", "fault"),
    [
        (["transcript"], "results_mask: 'transcript' is unknown: did you mean transcription?"),
        (
            ["transcription.words"],
            "results_mask: 'transcription.words' is unknown: known are algorithms_metadata",
        ),
        (["id.x"], "results_mask: 'id.x' is unknown"),
        ("talkState", "results_mask: 'talkState' is unknown: did you mean talk_state?"),
        ([None], "results_mask: None is unknown"),
        ({"paths": []}, "results_mask is {'paths': []}, not a list."),
    ],
)
def test_an_unknown_path_is_named(mask: Any, fault: str) -> None:
    (found,) = violations(check_mask, mask)
    assert found.startswith(fault)


def test_an_empty_text_is_refused_as_a_mask_because_it_is_likely_a_template_gone_wrong() -> None:
    assert len(violations(check_mask, "")) == 1


# --- ids


def test_ids_are_taken_once_each_in_their_order() -> None:
    assert check_talk_ids(["b", " a", "b"]) == ["b", "a"]
    assert check_talk_ids("a") == ["a"]
    assert check_talk_ids(iter(["a", "b"])) == ["a", "b"]


@pytest.mark.parametrize("nothing", [[], (), None])
def test_no_ids_are_refused_with_where_to_get_some(nothing: Any) -> None:
    (found,) = violations(check_talk_ids, nothing)
    assert found == "talk_ids is empty: give at least one; an upload or a search returns them."


@pytest.mark.parametrize(
    ("ids", "fault"),
    [
        (["a", 7], "talk_ids[1] is 7, not a talk id."),
        (["a", " "], "talk_ids[1] is ' ', not a talk id."),
        ("", "talk_ids[0] is '', not a talk id."),
        (7, "talk_ids is 7, not a list."),
        ({"a": 1}, "talk_ids is {'a': 1}, not a list."),
    ],
)
def test_what_is_no_id_is_named(ids: Any, fault: str) -> None:
    assert violations(check_talk_ids, ids) == (fault,)
