"""What crosses between this package and Airflow is turned into what the other side understands."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
    TaskDeferred,
)

from airflow_provider_speechsense.boundary import (
    ProgressLog,
    airflow_errors,
    backstop,
    check_trigger,
    end_time,
    id_list,
    plain_json,
    rendered,
    seconds,
)
from airflow_provider_speechsense.exceptions import (
    AuthenticationError,
    ConfigurationError,
    ServiceUnavailableError,
    SpeechSenseError,
)
from airflow_provider_speechsense.triggers.speechsense import SpeechSenseTalkTrigger
from tests.helpers import TaskInstance

# --- errors


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ServiceUnavailableError("gone"), AirflowException),
        (AuthenticationError("no"), AirflowFailException),
        (SpeechSenseError("odd", retryable=True), AirflowException),
    ],
)
def test_only_an_error_that_a_retry_may_mend_spends_one(error: SpeechSenseError, kind: type) -> None:
    with pytest.raises(AirflowException) as caught, airflow_errors():
        raise error
    assert type(caught.value) is kind
    assert caught.value.__cause__ is error
    assert str(caught.value) == f"{type(error).__name__}: {error}"


def test_where_a_retry_would_do_harm_no_error_gets_one() -> None:
    with pytest.raises(AirflowFailException), airflow_errors(may_retry=False):
        raise ServiceUnavailableError("gone")


def test_the_text_of_an_error_tells_cause_and_remedy() -> None:
    with pytest.raises(AirflowException) as caught, airflow_errors():
        raise AuthenticationError("SpeechSense does not accept the credentials.", code="UNAUTHENTICATED")
    text = str(caught.value)
    assert text.startswith(
        "AuthenticationError: SpeechSense does not accept the credentials. (UNAUTHENTICATED)"
    )
    assert "What to do: check the secret and auth_type of the connection" in text


@pytest.mark.parametrize("kind", [KeyError, KeyboardInterrupt])
def test_other_errors_pass_where_a_retry_does_no_harm(kind: type[BaseException]) -> None:
    with pytest.raises(kind), airflow_errors():
        raise kind("stop")
    with pytest.raises(AirflowFailException, match=kind.__name__) as caught, airflow_errors(may_retry=False):
        raise kind("stop")
    assert isinstance(caught.value.__cause__, kind)


@pytest.mark.parametrize("error", [AirflowSkipException("skip"), TaskDeferred(trigger=None, method_name="m")])
def test_what_is_airflows_own_passes_in_any_case(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, airflow_errors(may_retry=False):
        raise error
    assert caught.value is error


# --- deadlines


def test_a_wait_ends_after_its_timeout() -> None:
    assert end_time({}, 60, None) == pytest.approx(time.time() + 60, abs=5)
    assert end_time({"ti": TaskInstance()}, 60, timedelta(seconds=5)) == pytest.approx(
        time.time() + 60, abs=5
    )


@pytest.mark.parametrize(("allowed", "ends"), [(600, 585), (40, 30), (100_000, 3600)])
def test_a_wait_ends_a_little_before_the_tasks_execution_timeout(allowed: float, ends: float) -> None:
    started = datetime.now(UTC)
    context: Any = {"ti": TaskInstance(start_date=started)}
    found = end_time(context, 3600, timedelta(seconds=allowed))
    assert found - started.timestamp() == pytest.approx(ends, abs=5)


def test_airflow_ends_a_deferred_wait_long_after_we_do() -> None:
    assert backstop(time.time() + 100).total_seconds() == pytest.approx(700, abs=5)
    assert backstop(time.time() - 100).total_seconds() == 600


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"poll_interval": timedelta(seconds=5)}, "datetime.timedelta(seconds=5)"),
        ({"end_time": float("inf")}, "'end_time': inf"),
        ({"scope": {"space_id": object}}, "<class 'object'>"),
    ],
)
def test_trigger_arguments_that_are_no_json_are_refused(changed: dict[str, Any], named: str) -> None:
    arguments: dict[str, Any] = {
        "talk_ids": ["t1"],
        "visible_by": 1.0,
        "speechsense_conn_id": "c",
        "poll_interval": 5.0,
        "end_time": 2.0,
    }
    check_trigger(SpeechSenseTalkTrigger(**arguments))
    with pytest.raises(ConfigurationError) as caught:
        check_trigger(SpeechSenseTalkTrigger(**arguments | changed))
    assert named in str(caught.value)
    assert "finite numbers of seconds" in str(caught.value)


@pytest.mark.parametrize(
    ("given", "means"), [(0, 0), (1.5, 1.5), ("90", 90), (" 0.5 ", 0.5), (timedelta(minutes=2), 120)]
)
def test_a_duration_is_a_number_its_text_or_a_timedelta(given: Any, means: float) -> None:
    assert seconds("timeout", given) == means


@pytest.mark.parametrize("given", [-1, "soon", "nan", "inf", None, True, [5], timedelta(seconds=-1)])
def test_a_duration_that_is_none_is_named(given: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^timeout is .*a number of seconds, or a timedelta"):
        seconds("timeout", given)


# --- what comes in and goes out


@pytest.mark.parametrize(
    ("given", "ids"),
    [
        ("t1", ["t1"]),
        (["t1", "t2"], ["t1", "t2"]),
        (("t1",), ["t1"]),
        (iter(["t1", "t2"]), ["t1", "t2"]),
        ([["t1"], ["t2", "t3"], "t4"], ["t1", "t2", "t3", "t4"]),
        (' ["t1", "t2"]', ["t1", "t2"]),
        ({"operation_id": "o1", "badge_id": "b1", "talk_ids": ["t1"]}, ["t1"]),
        ('{"talk_ids": ["t1", "t2"]}', ["t1", "t2"]),
        ({"ids": ["t1"]}, [{"ids": ["t1"]}]),
        (None, []),
        ("None", []),
        ("", []),
        ([], []),
        (7, [7]),
    ],
)
def test_talk_ids_may_come_in_every_form_that_airflow_makes_of_them(given: Any, ids: list[Any]) -> None:
    assert id_list(given) == ids


@pytest.mark.parametrize(
    ("given", "means"),
    [
        ("text", "text"),
        (" text ", " text "),
        ("", None),
        (" None ", None),
        (None, None),
        (0, 0),
        (["{{ not text }}"], ["{{ not text }}"]),
        (' {"a": [1]}', {"a": [1]}),
        ("[1, 2]", [1, 2]),
    ],
)
def test_text_that_a_template_made_means_what_it_was_before(given: Any, means: Any) -> None:
    assert rendered(given) == means


def test_ids_that_a_template_turned_into_text_are_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigurationError, match="tojson filter of the template, or an XComArg"):
        id_list("['t1', 't2']")


def test_what_some_database_does_not_take_leaves_a_value() -> None:
    value = {"a": [1.5, float("nan"), float("-inf")], "b": ("x\x00y", None, True), "c": {"d": 7}}
    assert plain_json(value) == {"a": [1.5, None, None], "b": ["xy", None, True], "c": {"d": 7}}


# --- progress


def test_progress_is_logged_every_ten_seconds_with_share_rate_and_time_left() -> None:
    now, lines = [100.0], []
    progress = ProgressLog(lines.append, clock=lambda: now[0])
    for second in range(26):
        now[0] = 100.0 + second
        progress(second * 4_000_000, 200_000_000)
    assert lines == [
        "20% sent, 40.0 of 200.0 MB, 4.0 MB/s, 0:00:40 left",
        "40% sent, 80.0 of 200.0 MB, 4.0 MB/s, 0:00:30 left",
    ]


def test_progress_of_nothing_does_not_guess_the_time_left() -> None:
    now, lines = [0.0], []
    progress = ProgressLog(lines.append, clock=lambda: now[0])
    now[0] = 11.0
    progress(0, 200_000_000)
    assert lines == ["0% sent, 0.0 of 200.0 MB, 0.0 MB/s, ? left"]
