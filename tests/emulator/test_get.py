"""Get: masks that say exactly what comes back, the order of ids, ids nobody knows, and the quota."""

from __future__ import annotations

import pytest

from tests.emulator.support import Bench, Serve, messages, tone, wav

STEREO = wav([tone((500, 5000), (500, 0)), tone((500, 0), (500, 5000))])
BASE = {"id", "connection_id", "created_by", "created_at", "modified_by", "modified_at", "talk_fields"}
COMPUTED = {
    "transcription",
    "speech_statistics",
    "silence_statistics",
    "interrupts_statistics",
    "conversation_statistics",
    "talk_state",
}


def analysed_call(bench: Bench) -> str:
    talk_id = bench.upload(STEREO, operator_id="op")
    bench.clock.advance(10)
    return talk_id


def fields_of(bench: Bench, talk_id: str, mask: list[str] | None) -> set[str]:
    return {field.name for field, _ in bench.get(talk_id, mask=mask)[0].ListFields()}


@pytest.mark.parametrize(
    ("mask", "results"),
    [
        (None, COMPUTED),
        ([], set()),
        (["talk_state"], {"talk_state"}),
        (["talk_state", "transcription"], {"talk_state", "transcription"}),
        (["summarization", "assistants", "points"], set()),
        (["id"], set()),
    ],
)
def test_a_mask_says_which_results_come_back(bench: Bench, mask: list[str] | None, results: set[str]) -> None:
    assert fields_of(bench, analysed_call(bench), mask) == BASE | results


def test_what_an_empty_and_an_unset_mask_mean_are_switches(serve: Serve) -> None:
    bench = serve(empty_mask_returns="everything", unset_mask_returns="base")
    talk_id = analysed_call(bench)
    assert fields_of(bench, talk_id, []) == BASE | COMPUTED
    assert fields_of(bench, talk_id, None) == BASE


def test_that_the_state_comes_without_being_asked_for_is_a_switch(serve: Serve) -> None:
    bench = serve(talk_state_without_mask=True)
    talk_id = analysed_call(bench)
    assert fields_of(bench, talk_id, []) == BASE | {"talk_state"}
    assert fields_of(bench, talk_id, ["transcription"]) == BASE | {"talk_state", "transcription"}


def test_a_mask_may_go_deeper(bench: Bench) -> None:
    mask = ["talk_state.processing_state", "speech_statistics.total_simultaneous_speech_ratio"]
    talk = bench.get(analysed_call(bench), mask=mask)[0]
    assert talk.talk_state.processing_state
    assert not talk.talk_state.algorithm_processing_infos


@pytest.mark.parametrize(
    "path", ["talkState", "transcript", "", "transcription.phrases.phrase", "id.x", "Clear.x", "talk_state."]
)
def test_a_path_that_no_talk_has_is_refused(bench: Bench, path: str) -> None:
    request = messages.GetTalkRequest(talk_ids=["aud1"], results_mask={"paths": ["talk_state", path]})
    assert bench.refused("TalkService/Get", request) == (
        "INVALID_ARGUMENT",
        f"results_mask: Talk has no field {path!r}",
    )


def test_talks_come_in_the_order_asked_for_and_once(bench: Bench) -> None:
    first, second = bench.upload(), bench.upload()
    assert [talk.id for talk in bench.get(second, first, second)] == [second, first]


def test_get_needs_ids(bench: Bench) -> None:
    assert bench.refused("TalkService/Get", messages.GetTalkRequest()) == (
        "INVALID_ARGUMENT",
        "talk_ids is empty",
    )


def test_unknown_ids_are_left_out(bench: Bench) -> None:
    talk_id = bench.upload()
    assert bench.get("aud0") == []
    assert [talk.id for talk in bench.get("aud0", talk_id)] == [talk_id]


def test_unknown_ids_may_be_an_error_by_switch(serve: Serve) -> None:
    bench = serve(unknown_talk_id="not_found")
    talk_id = bench.upload()
    unknown = messages.GetTalkRequest(talk_ids=["aud0"])
    assert bench.refused("TalkService/Get", unknown) == ("NOT_FOUND", "Talks not found: aud0")
    assert len(bench.get("aud0", talk_id)) == 1
    strict = serve(mixed_talk_ids="not_found")
    mixed = messages.GetTalkRequest(talk_ids=[strict.upload(), "aud0"])
    assert strict.refused("TalkService/Get", mixed) == ("NOT_FOUND", "Talks not found: aud0")
    assert strict.get("aud0") == []


def test_too_many_ids_are_answered_like_an_answer_that_got_too_large(serve: Serve) -> None:
    ids = [f"aud{i}" for i in range(101)]
    request = messages.GetTalkRequest(talk_ids=ids)
    assert serve().get(*ids[:100]) == []
    assert serve().refused("TalkService/Get", request) == (
        "RESOURCE_EXHAUSTED",
        "message exceeds maximum size",
    )
    assert serve(oversize_get_code="INTERNAL").refused("TalkService/Get", request)[0] == "INTERNAL"


def test_scope_ids_are_ignored_until_the_emulator_has_its_own(serve: Serve) -> None:
    anything = serve()
    assert anything.get(anything.upload(), space_id="f3f1", project_id="eag1", organization_id="org")
    bench = serve(organization_id="org", space_id="f3f1", project_id="eag1")
    talk_id = bench.upload()
    talk = bench.get(talk_id, space_id="f3f1", project_id="eag1", connection_id="c1")[0]
    assert (talk.organization_id, talk.space_id, list(talk.project_ids)) == ("org", "f3f1", ["eag1"])
    for other in ("organization_id", "space_id", "project_id", "connection_id"):
        assert bench.get(talk_id, **{other: "other"}) == []


def test_the_quota_slides(bench: Bench) -> None:
    for _ in range(20):
        bench.get("aud0")
    code, text = bench.refused("TalkService/Get", messages.GetTalkRequest(talk_ids=["aud0"]))
    assert code == "RESOURCE_EXHAUSTED"
    assert text == "quota limit exceeded: getting dialogs, 20 per 1 s for a project"
    bench.clock.advance(1)
    bench.get("aud0")


def test_every_window_of_the_quota_binds(serve: Serve) -> None:
    bench = serve(get_quota=((1, 2), (60, 3)))
    bench.get("aud0")
    bench.get("aud0")
    bench.clock.advance(1)
    bench.get("aud0")
    bench.clock.advance(1)
    assert "3 per 60 s" in bench.refused("TalkService/Get", messages.GetTalkRequest(talk_ids=["aud0"]))[1]
    bench.clock.advance(58)
    bench.get("aud0")


def test_every_project_has_its_own_quota(serve: Serve) -> None:
    bench = serve(get_quota=((1, 1),))
    bench.get("aud0", project_id="p1")
    bench.get("aud0", project_id="p2")
    request = messages.GetTalkRequest(talk_ids=["aud0"], project_id="p1")
    assert bench.refused("TalkService/Get", request)[0] == "RESOURCE_EXHAUSTED"


def test_the_quota_may_count_dialogs(serve: Serve) -> None:
    bench = serve(get_quota=((1, 20),), quota_unit="dialog")
    bench.get(*[f"aud{i}" for i in range(12)])
    request = messages.GetTalkRequest(talk_ids=[f"aud{i}" for i in range(9)])
    assert bench.refused("TalkService/Get", request)[0] == "RESOURCE_EXHAUSTED"
    bench.get(*[f"aud{i}" for i in range(8)])
    bench.clock.advance(1)
    # Dearer than the window: it passes, because the window is empty.
    bench.get(*[f"aud{i}" for i in range(100)])


def test_quotas_can_be_switched_off(serve: Serve) -> None:
    bench = serve(get_quota=())
    for _ in range(30):
        bench.get("aud0")
