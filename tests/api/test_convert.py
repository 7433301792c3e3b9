"""Talks leave as plain dicts, and plain dicts become requests, with every fault named by its path."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_speechsense.api import protos
from airflow_provider_speechsense.api.convert import from_dict, to_dict, unpack

analysis, speechsense = protos.analysis, protos.speechsense


def fill(message: Any, given: Any) -> Any:
    faults: list[str] = []
    from_dict(message, given, "it", faults)
    assert not faults
    return message


def faults_of(message: Any, given: Any) -> list[str]:
    faults: list[str] = []
    from_dict(message, given, "it", faults)
    return faults


# --- out


def test_a_talk_is_a_plain_dict_in_the_apis_names() -> None:
    talk = speechsense.Talk(
        id="aud1",
        project_ids=["p1"],
        talk_fields=[{"name": "score", "type": "FIELD_TYPE_NUMBER"}],
        transcription={"phrases": [{"channel_number": 1, "end_time_ms": 2310, "phrase": {"text": "да"}}]},
        text_classifiers={
            "classification_result": [
                {"classifier": "complaint", "classifier_statistics": [{"channel_number": {"value": 0}}]}
            ]
        },
        assistants={
            "assistant_results": [{"results": [{"field_id": "f", "int_result": 0}, {"field_id": "g"}]}]
        },
        talk_state={"processing_state": "PROCESSING_STATE_SUCCESS"},
    )
    talk.created_at.FromJsonString("2025-04-24T14:35:19.882Z")
    plain = to_dict(talk)
    assert plain == {
        "id": "aud1",
        "project_ids": ["p1"],
        "created_at": "2025-04-24T14:35:19.882Z",
        "talk_fields": [{"name": "score", "type": "FIELD_TYPE_NUMBER"}],
        "transcription": {
            "phrases": [
                {"channel_number": 1, "start_time_ms": 0, "end_time_ms": 2310, "phrase": {"text": "да"}}
            ]
        },
        "text_classifiers": {
            "classification_result": [
                {"classifier": "complaint", "classifier_statistics": [{"channel_number": 0}]}
            ]
        },
        "assistants": {
            "assistant_results": [{"results": [{"field_id": "f", "int_result": 0}, {"field_id": "g"}]}]
        },
        "talk_state": {"processing_state": "PROCESSING_STATE_SUCCESS"},
    }
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain


def test_what_is_unset_is_absent() -> None:
    assert to_dict(speechsense.Talk()) == {}


def test_the_first_channel_and_the_beginning_are_zeros_not_absences() -> None:
    assert to_dict(analysis.Phrase()) == {"channel_number": 0, "start_time_ms": 0, "end_time_ms": 0}
    assert to_dict(analysis.PhraseHighlight(text="x")) == {"text": "x", "offset": 0}


def test_a_wrapped_channel_that_is_unset_means_the_whole_talk_and_stays_absent() -> None:
    assert to_dict(analysis.ClassifierStatistics(total_count=1)) == {"total_count": 1}


def test_an_enum_value_that_is_unknown_stays_a_number() -> None:
    talk = speechsense.Talk()
    talk.talk_state.processing_state = 9
    talk.talk_state.algorithm_processing_infos.add(algorithm=8)
    assert to_dict(talk)["talk_state"] == {
        "processing_state": 9,
        "algorithm_processing_infos": [{"algorithm": 8}],
    }


def test_a_map_is_a_dict() -> None:
    metadata = speechsense.TalkMetadata(connection_id="c", fields={"date": "now"})
    assert to_dict(metadata) == {"connection_id": "c", "fields": {"date": "now"}}


def test_a_share_of_nothing_is_absent_because_json_has_no_word_for_it() -> None:
    statistics = analysis.SpeechStatistics(total_simultaneous_speech_ratio=float("nan"))
    assert to_dict(statistics) == {}


def test_a_duration_is_seconds() -> None:
    duration = speechsense.DurationRangeFilter()
    duration.from_value.FromMilliseconds(1500)
    assert to_dict(duration) == {"from_value": 1.5}


def test_any_is_unpacked_if_its_type_is_known() -> None:
    packed = protos.well_known.Any()
    packed.Pack(speechsense.UploadBadgeMetadata(badge_id="b1"))
    assert unpack(packed) == {"badge_id": "b1"}
    assert to_dict(protos.operation.Operation(id="o1", metadata=packed))["metadata"] == {"badge_id": "b1"}
    packed.type_url = "type.googleapis.com/of.Tomorrow"
    assert unpack(packed) == {"type_url": "type.googleapis.com/of.Tomorrow"}


# --- in


@pytest.mark.parametrize("number", [5, "5"])
def test_a_number_may_be_text_because_templates_render_to_text(number: Any) -> None:
    assert fill(speechsense.Query(), {"text": "x", "channel_number": number}).channel_number.value == 5


@pytest.mark.parametrize(("flag", "value"), [(True, True), ("true", True), ("True", True), ("false", False)])
def test_a_flag_may_be_text_too(flag: Any, value: bool) -> None:
    assert fill(speechsense.Query(), {"inverse": flag}).inverse is value


@pytest.mark.parametrize("name", ["DESC", "desc", "SORT_ORDER_DESC"])
def test_an_enums_prefix_may_be_left_out(name: str) -> None:
    assert fill(speechsense.SortField(), {"order": name}).order == 2


@pytest.mark.parametrize("seconds", [90, "90", timedelta(minutes=1.5)])
def test_a_duration_is_a_number_of_seconds_or_a_timedelta(seconds: Any) -> None:
    assert fill(speechsense.DurationRangeFilter(), {"to_value": seconds}).to_value.seconds == 90


@pytest.mark.parametrize(
    "moment", ["2025-04-24T17:34:19+03:00", datetime(2025, 4, 24, 14, 34, 19, tzinfo=UTC)]
)
def test_a_time_is_text_or_a_datetime_with_a_zone(moment: Any) -> None:
    message = fill(speechsense.DateRangeFilter(), {"from_value": moment})
    assert message.from_value.ToJsonString() == "2025-04-24T14:34:19Z"


def test_a_wrapper_given_its_default_is_given_all_the_same() -> None:
    message = fill(speechsense.Filter(), {"channel_number": 0})
    assert message.HasField("channel_number")


def test_none_is_not_given() -> None:
    assert fill(speechsense.Query(), {"text": "x", "channel_number": None}) == speechsense.Query(text="x")


@pytest.mark.parametrize(
    ("message", "given", "fault"),
    [
        (speechsense.Query(), "text", "it is 'text', not a dict."),
        (speechsense.Query(), {"txet": "x"}, "it.txet is unknown: did you mean text?"),
        (speechsense.Query(), {1: "x"}, "it.1 is unknown: known are channel_number, inverse, text."),
        (speechsense.Query(), {"text": 5}, "it.text is 5, not a string."),
        (speechsense.Query(), {"text": "\ud800"}, "it.text is '\\ud800', not a string."),
        (speechsense.Query(), {"inverse": "yes"}, "it.inverse is 'yes', not true or false."),
        (speechsense.Query(), {"inverse": 1}, "it.inverse is 1, not true or false."),
        (speechsense.Query(), {"channel_number": 1.5}, "it.channel_number is 1.5, not an integer."),
        (speechsense.Query(), {"channel_number": True}, "it.channel_number is True, not an integer."),
        (speechsense.Query(), {"channel_number": "two"}, "it.channel_number is 'two', not an integer."),
        (speechsense.Query(), {"channel_number": 2**63}, f"it.channel_number is {2**63}, not an integer."),
        (speechsense.DoubleRangeFilter(), {"from_value": "x"}, "it.from_value is 'x', not a number."),
        (speechsense.DoubleRangeFilter(), {"from_value": [1]}, "it.from_value is [1], not a number."),
        (speechsense.DoubleRangeFilter(), {"to_value": "nan"}, "it.to_value is 'nan', not a number."),
        (speechsense.DoubleRangeFilter(), {"to_value": False}, "it.to_value is False, not a number."),
        (
            speechsense.SortField(),
            {"order": "DOWN"},
            "it.order 'DOWN' is unknown: known are SORT_ORDER_ASC, ",
        ),
        (
            speechsense.DurationRangeFilter(),
            {"to_value": "a minute"},
            "it.to_value is 'a minute', not a number of seconds or a timedelta.",
        ),
        (
            speechsense.DateRangeFilter(),
            {"to_value": "now"},
            "it.to_value: 'now' is not like 2025-04-24T14:34:19Z",
        ),
        (
            speechsense.DateRangeFilter(),
            {"to_value": date(2025, 4, 24)},
            "it.to_value is datetime.date(2025, 4, 24), not a datetime or text",
        ),
        (
            speechsense.DateRangeFilter(),
            {"to_value": datetime(2025, 4, 24)},
            "it.to_value is 2025-04-24 00:00:00, which names no time zone",
        ),
        (speechsense.AnyMatchFilter(), {"values": "a"}, "it.values is 'a', not a list."),
        (speechsense.AnyMatchFilter(), {"values": 7}, "it.values is 7, not a list."),
        (speechsense.AnyMatchFilter(), {"values": ["a", 7]}, "it.values[1] is 7, not a string."),
        (
            speechsense.SortData(),
            {"fields": [{"filed": "x"}]},
            "it.fields[0].filed is unknown: did you mean field?",
        ),
        (speechsense.Filter(), {"int_range": 5}, "it.int_range is 5, not a dict."),
        (
            speechsense.Filter(),
            {"int_range": {"from_value": 1}, "boolean_match": {"value": True}},
            "it has int_range and boolean_match: only one of them can be.",
        ),
    ],
)
def test_a_fault_is_named_by_its_path(message: Any, given: Any, fault: str) -> None:
    (found,) = faults_of(message, given)
    assert found.startswith(fault)
