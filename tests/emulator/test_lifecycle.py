"""A talk's state is a function of the time, and results come only when their algorithm is through."""

from __future__ import annotations

import pytest

from airflow_provider_speechsense.api.models import Algorithm
from airflow_provider_speechsense.emulator import TalkFault
from tests.emulator.support import Bench, Serve

PACE = {"queue_seconds": 10.0, "processing_seconds": 30.0}
FAILS = TalkFault(algorithm=Algorithm.SPEECHKIT, code="INVALID_ARGUMENT", message="audio is broken")


def test_audio_goes_through_its_algorithms_one_by_one(serve: Serve) -> None:
    bench = serve(**PACE)
    talk_id = bench.upload()
    seen = []
    for seconds in (0, 9.9, 0.2, 10, 10, 10):
        bench.clock.advance(seconds)
        seen.append((bench.state(talk_id), *bench.algorithms(talk_id).values()))
    assert list(bench.algorithms(talk_id)) == ["SPEECHKIT", "STATISTICS", "CLASSIFIER"]
    assert seen == [
        ("NOT_STARTED", "NOT_STARTED", "NOT_STARTED", "NOT_STARTED"),
        ("NOT_STARTED", "NOT_STARTED", "NOT_STARTED", "NOT_STARTED"),
        ("PROCESSING", "PROCESSING", "NOT_STARTED", "NOT_STARTED"),
        ("PROCESSING", "SUCCESS", "PROCESSING", "NOT_STARTED"),
        ("PROCESSING", "SUCCESS", "SUCCESS", "PROCESSING"),
        ("SUCCESS", "SUCCESS", "SUCCESS", "SUCCESS"),
    ]


def test_a_chat_has_nothing_to_recognise(serve: Serve) -> None:
    bench = serve(**PACE)
    talk_id = bench.upload_chat((1, "cl", "hello"))
    assert list(bench.algorithms(talk_id)) == ["CLASSIFIER", "STATISTICS"]
    bench.clock.advance(40)
    assert bench.state(talk_id) == "SUCCESS"


def test_an_algorithm_may_take_its_own_time(serve: Serve) -> None:
    bench = serve(**PACE, algorithm_seconds={Algorithm.SPEECHKIT: 3600})
    talk_id = bench.upload()
    bench.clock.advance(10 + 3599)
    assert bench.algorithms(talk_id)["SPEECHKIT"] == "PROCESSING"
    bench.clock.advance(1 + 20)
    assert bench.state(talk_id) == "SUCCESS"


def test_results_appear_when_their_algorithm_is_through(serve: Serve) -> None:
    bench = serve(**PACE)
    talk_id = bench.upload()
    bench.clock.advance(19)
    talk = bench.get(talk_id)[0]
    assert not talk.transcription.algorithms_metadata
    assert not talk.HasField("conversation_statistics")
    bench.clock.advance(1)
    talk = bench.get(talk_id)[0]
    recogniser = talk.transcription.algorithms_metadata[0]
    assert recogniser.name == "speechkit"
    assert recogniser.trace_id
    assert recogniser.completed_task_date.ToSeconds() - recogniser.created_task_date.ToSeconds() == 10
    assert not talk.HasField("conversation_statistics")
    bench.clock.advance(10)
    assert bench.get(talk_id)[0].HasField("conversation_statistics")


def test_the_analysis_moves_modified_at_and_signs_it(serve: Serve) -> None:
    bench = serve(**PACE)
    talk_id = bench.upload()
    talk = bench.get(talk_id)[0]
    assert talk.modified_at == talk.created_at
    assert talk.modified_by == talk.created_by
    bench.clock.advance(100)
    talk = bench.get(talk_id)[0]
    assert talk.modified_at.ToSeconds() - talk.created_at.ToSeconds() == 40
    assert talk.modified_by == "CLASSIFIER"


def test_a_failed_algorithm_fails_the_talk_and_says_why(serve: Serve) -> None:
    bench = serve(**PACE)
    bench.emulator.script(FAILS)
    talk_id, other = bench.upload(), bench.upload()
    bench.clock.advance(19)
    assert bench.state(talk_id) == "PROCESSING"
    bench.clock.advance(1)
    assert bench.state(talk_id) == "FAILED"
    bench.clock.advance(100)
    assert bench.algorithms(talk_id) == {
        "SPEECHKIT": "FAILED",
        "STATISTICS": "NOT_STARTED",
        "CLASSIFIER": "NOT_STARTED",
    }
    talk = bench.get(talk_id)[0]
    error = talk.transcription.algorithms_metadata[0].error
    assert (error.code, error.message) == ("INVALID_ARGUMENT", "audio is broken")
    assert not talk.HasField("conversation_statistics")
    assert bench.state(other) == "SUCCESS"


def test_overall_success_with_a_failed_algorithm_is_a_switch(serve: Serve) -> None:
    bench = serve(**PACE, failed_algorithm_fails_talk=False)
    bench.emulator.script(FAILS)
    talk_id = bench.upload()
    bench.clock.advance(100)
    assert bench.state(talk_id) == "SUCCESS"
    assert bench.algorithms(talk_id)["SPEECHKIT"] == "FAILED"
    assert bench.get(talk_id)[0].HasField("conversation_statistics")


def test_a_failed_talk_may_recover_as_on_hybrid(serve: Serve) -> None:
    bench = serve(**PACE, failed_recovers_after=1000)
    bench.emulator.script(FAILS)
    talk_id = bench.upload()
    bench.clock.advance(20 + 999)
    assert bench.state(talk_id) == "FAILED"
    bench.clock.advance(1)
    assert bench.state(talk_id) == "PROCESSING"
    bench.clock.advance(30)
    assert bench.state(talk_id) == "SUCCESS"
    assert not bench.get(talk_id)[0].transcription.algorithms_metadata[0].HasField("error")


def test_a_talk_already_there_can_be_made_to_fail(bench: Bench) -> None:
    talk_id = bench.upload_chat((1, "cl", "hello"))
    bench.emulator.script(TalkFault(talk_id=talk_id, algorithm=Algorithm.STATISTICS))
    talk = bench.analysed(talk_id)
    assert bench.state(talk_id) == "FAILED"
    assert [trace.name for trace in talk.transcription.algorithms_metadata] == ["statistics"]


def test_a_fault_may_strike_several_uploads(bench: Bench) -> None:
    bench.emulator.script(TalkFault(algorithm=Algorithm.CLASSIFIER, count=2))
    ids = [bench.upload() for _ in range(3)]
    bench.clock.advance(10)
    assert [bench.state(talk_id) for talk_id in ids] == ["FAILED", "FAILED", "SUCCESS"]


def test_an_algorithm_that_the_emulator_does_not_do_cannot_fail() -> None:
    with pytest.raises(ValueError, match="the emulator does no ASSISTANT"):
        TalkFault(algorithm=Algorithm.ASSISTANT)


def test_a_state_may_be_unknown_to_the_client(bench: Bench) -> None:
    bench.emulator.script(TalkFault(unknown_state=True))
    state = bench.get(bench.upload())[0].talk_state.processing_state
    assert state not in range(5)


def test_a_talk_may_be_hidden_for_a_while(bench: Bench) -> None:
    bench.emulator.script(TalkFault(hidden_seconds=60))
    talk_id = bench.upload()
    assert bench.get(talk_id) == []
    assert bench.search() == []
    bench.clock.advance(60)
    assert bench.get(talk_id)[0].id == talk_id
    assert bench.search() == [talk_id]


def test_get_and_search_may_be_late_by_a_switch(serve: Serve) -> None:
    bench = serve(get_visibility_delay=5, search_visibility_delay=60)
    talk_id = bench.upload()
    assert bench.get(talk_id) == []
    bench.clock.advance(5)
    assert len(bench.get(talk_id)) == 1
    assert bench.search() == []
    bench.clock.advance(55)
    assert bench.search() == [talk_id]
