"""Statistics are computed from what was uploaded: exactly for tones, plausibly for speech, or not at all."""

from __future__ import annotations

import json
import random
from array import array
from datetime import datetime
from typing import Any

import pytest

from airflow_provider_speechsense.emulator import speech
from airflow_provider_speechsense.emulator.analysis import describe
from tests.emulator.support import (
    SAMPLES,
    Bench,
    Serve,
    header_of,
    interleaved,
    raw_header,
    stream,
    tone,
    upload_request,
    wav,
)

# Two speakers in ten seconds. The second interrupts the first at 4.0 s, is heard out from 5.0 s on, and says
# a word of agreement at 8.2 s within what the first says.
FIRST = ((1000, 0), (4000, 8000), (2000, 0), (2500, 6000), (500, 0))
SECOND = ((4000, 0), (2000, 3000), (2200, 0), (200, 3000), (1600, 0))


def speakers_of(talk: Any) -> list[Any]:
    return list(talk.conversation_statistics.speaker_statistics)


@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 44_100, 48_000])
def test_two_channels_are_measured_to_the_frame(bench: Bench, rate: int) -> None:
    audio = wav([tone(*FIRST, rate=rate), tone(*SECOND, rate=rate)], rate)
    talk = bench.analysed(bench.upload(audio))
    exact = 1 if rate % 8000 == 0 else 4 * speech.FRAME_MS

    def is_about(value: float) -> Any:
        return pytest.approx(value, abs=exact)

    spans = talk.conversation_statistics.conversation_boundaries
    assert (spans.start_time_ms, spans.end_time_ms) == (is_about(1000), is_about(9500))
    first, second = speakers_of(talk)
    assert (first.speaker_tag, first.utterance_count) == ("0", 2)
    assert (second.speaker_tag, second.utterance_count) == ("1", 2)
    assert first.complete_statistics.total_speech_ms == is_about(6500)
    assert first.complete_statistics.total_silence_ms == is_about(3500)
    assert first.complete_statistics.speech_ratio == pytest.approx(0.65, abs=0.01)
    assert second.complete_statistics.total_speech_ms == is_about(2200)
    assert first.utterance_duration_estimation.min == is_about(2500)
    assert first.utterance_duration_estimation.max == is_about(4000)
    assert talk.speech_statistics.total_simultaneous_speech_duration_ms == is_about(1200)
    assert talk.speech_statistics.simultaneous_speech_duration_estimation.max == is_about(1000)
    assert talk.silence_statistics.total_simultaneous_silence_duration_ms == is_about(2500)
    none, some = talk.interrupts_statistics.speaker_interrupts
    assert (none.speaker_tag, none.interrupts_count) == ("0", 0)
    assert (some.speaker_tag, some.interrupts_count) == ("1", 2)
    assert some.interrupts_duration_ms == is_about(1200)
    assert [part.start_time_ms for part in some.interrupts] == [is_about(4000), is_about(8200)]
    assert [part.end_time_ms for part in some.interrupts] == [is_about(5000), is_about(8400)]


def test_headerless_pcm_is_measured_as_wav_is(bench: Bench) -> None:
    channels = [tone(*FIRST), tone(*SECOND)]
    request = upload_request(interleaved(channels), raw_header(8000, 2))
    raw = bench.analysed(bench.call("TalkService/Upload", request).talk_id)
    whole = bench.analysed(bench.upload(wav(channels)))
    assert raw.conversation_statistics == whole.conversation_statistics
    assert raw.silence_statistics == whole.silence_statistics


def test_with_one_channel_nobody_can_be_interrupted(bench: Bench) -> None:
    talk = bench.analysed(bench.upload(wav([tone(*FIRST)])))
    assert not talk.HasField("speech_statistics")
    assert not talk.HasField("interrupts_statistics")
    assert talk.silence_statistics.total_simultaneous_silence_duration_ms == 3500
    assert talk.silence_statistics.total_simultaneous_silence_duration_seconds == 4
    assert len(speakers_of(talk)) == 1


def test_three_channels_are_measured_too(bench: Bench) -> None:
    talk = bench.analysed(bench.upload(wav([tone((1000, 0), (1000, 5000))] * 3)))
    assert talk.speech_statistics.total_simultaneous_speech_duration_ms == 1000
    assert len(talk.interrupts_statistics.speaker_interrupts) == 3


def utterances_of(bench: Bench, *channels: array[int]) -> list[list[tuple[int, int]]]:
    recording = bench.emulator.talk(bench.upload(wav(channels))).recording
    assert recording is not None
    return speech.utterances(recording)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        pytest.param(
            ((500, 0), (600, 9000), (280, 0), (600, 9000), (500, 0)), [(500, 1980)], id="short pause"
        ),
        pytest.param(
            ((500, 0), (600, 9000), (300, 0), (600, 9000), (500, 0)), [(500, 1100), (1400, 2000)], id="pause"
        ),
        pytest.param(((500, 0), (80, 9000), (500, 0)), [], id="click"),
        pytest.param(((500, 0), (100, 9000), (500, 0)), [(500, 600)], id="shortest word"),
        pytest.param(((2000, 9000),), [(0, 2000)], id="without a pause"),
        pytest.param(((2000, 0),), [], id="silence"),
        pytest.param(((2000, 100),), [], id="too quiet"),
        pytest.param(
            ((1000, 0), (1000, 300), (1000, 0)), [(1000, 2000)], id="a quiet speaker on a clean line"
        ),
        pytest.param(((1000, 200), (1000, 20_000)), [(1000, 2000)], id="crosstalk"),
        pytest.param(((990, 0), (10, 9000)), [], id="a last frame that is none"),
    ],
)
def test_what_is_an_utterance(
    bench: Bench, parts: tuple[tuple[int, int], ...], expected: list[tuple[int, int]]
) -> None:
    assert utterances_of(bench, tone(*parts)) == [expected]


def test_speech_is_found_above_the_noise_of_a_line(bench: Bench) -> None:
    clean, dice = tone((2000, 0), (2000, 8000), (3000, 0), (1000, 8000), (2000, 0)), random.Random(7)
    noisy = array("h", (sample + dice.randint(-400, 400) for sample in clean))
    assert utterances_of(bench, noisy) == [[(2000, 4000), (7000, 8000)]]


def test_clicks_do_not_hide_a_quiet_speaker(bench: Bench) -> None:
    channel = tone((1000, 0), (2000, 700), (1000, 0))
    channel[500] = -32_768
    assert utterances_of(bench, channel) == [[(1000, 3000)]]


def test_a_few_samples_are_a_recording_too(bench: Bench) -> None:
    talk = bench.analysed(bench.upload(wav([array("h", [9000, -9000])] * 2)))
    assert speakers_of(talk)[0].complete_statistics.silence_ratio == 1
    assert not talk.conversation_statistics.HasField("conversation_boundaries")


def test_the_sample_call_has_one_interruption_by_the_client(bench: Bench) -> None:
    talk_id = bench.call("TalkService/UploadAsStream", stream((SAMPLES / "call.wav").read_bytes())).talk_id
    talk = bench.analysed(talk_id)
    operator, client = talk.interrupts_statistics.speaker_interrupts
    assert operator.interrupts_count == 0
    assert (client.speaker_tag, client.interrupts_count) == ("1", 1)
    # The script that makes it has the client begin 600 ms before the operator ends.
    assert client.interrupts_duration_ms == pytest.approx(600, abs=60)
    assert talk.speech_statistics.total_simultaneous_speech_duration_ms == client.interrupts_duration_ms
    assert [speaker.utterance_count for speaker in speakers_of(talk)] == [7, 6]
    for speaker in speakers_of(talk):
        numbers = speaker.complete_statistics
        assert numbers.total_speech_ms + numbers.total_silence_ms == 25_423
    assert talk.conversation_statistics.conversation_boundaries.start_time_ms == 300
    assert talk.conversation_statistics.conversation_boundaries.duration_seconds == 25
    assert not talk.transcription.phrases
    assert not talk.HasField("text_classifiers")


@pytest.mark.parametrize(("name", "container"), [("call.mp3", "MP3"), ("call.ogg", "OGG_OPUS")])
def test_of_compressed_audio_only_the_length_is_known(bench: Bench, name: str, container: str) -> None:
    request = upload_request((SAMPLES / name).read_bytes(), header_of(container))
    talk = bench.analysed(bench.call("TalkService/Upload", request).talk_id)
    spans = talk.conversation_statistics.conversation_boundaries
    assert (spans.start_time_ms, spans.duration_seconds) == (0, pytest.approx(25.5, abs=0.5))
    assert not speakers_of(talk)
    for name in ("speech_statistics", "silence_statistics", "interrupts_statistics"):
        assert not talk.HasField(name)


def test_an_unknown_length_is_absent(bench: Bench) -> None:
    # Without the first frame, which counts the others, three do not tell whether the bitrate is constant.
    audio = (SAMPLES / "call.mp3").read_bytes()
    start = audio.index(audio[:2], 100)
    request = upload_request(audio[start : start + 1000], header_of("MP3"))
    talk = bench.analysed(bench.call("TalkService/Upload", request).talk_id)
    assert not talk.conversation_statistics.HasField("conversation_boundaries")


def test_results_are_computed_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    talk_id = bench.upload()
    first = bench.analysed(talk_id)
    monkeypatch.setattr(speech, "utterances", None)
    assert bench.get(talk_id)[0] == first


def test_polling_the_state_computes_nothing(bench: Bench) -> None:
    talk_id = bench.upload()
    bench.clock.advance(10)
    bench.get(talk_id, mask=["talk_state"])
    assert bench.emulator.talk(talk_id).results == {}


def test_a_distribution_is_described() -> None:
    numbers = describe([4, 1, 3, 2])
    assert (numbers.min, numbers.max, numbers.mean) == (1, 4, 2.5)
    assert numbers.std == pytest.approx(1.118, abs=0.001)
    assert [(each.level, each.value) for each in numbers.quantiles] == [
        (0.25, 1.75),
        (0.5, 2.5),
        (0.75, 3.25),
        (0.95, pytest.approx(3.85)),
    ]
    assert describe([]) is None


# Chats

CLASSIFIERS = {
    "complaint": ["обещали", "its  late"],
    "thanks": ["спасибо"],
    "greeting": ["good", "good day"],
}


def sample_chat(bench: Bench) -> Any:
    document = json.loads((SAMPLES / "chat.json").read_text())
    turns = [
        (datetime.fromisoformat(each["timestamp"]).timestamp(), each["user_id"], each["text"])
        for each in document["messages"]
    ]
    return bench.analysed(bench.upload_chat(*turns, **document["metadata"]))


def test_the_sample_chat_is_counted(serve: Serve) -> None:
    talk = sample_chat(serve(classifiers=CLASSIFIERS))
    phrases = talk.transcription.phrases
    assert [phrase.channel_number for phrase in phrases] == [1, 2, 1, 2, 0, 1, 0, 1]
    first = phrases[0].statistics.statistics
    assert (first.speaker_tag, first.words_count, first.letters_count) == ("1", 6, 37)
    last = phrases[-1]
    assert last.start_time_ms == last.end_time_ms == 187_955
    spans = talk.conversation_statistics.conversation_boundaries
    assert (spans.start_time_ms, spans.end_time_ms, spans.duration_seconds) == (0, 187_955, 188)
    operator, client, bot = speakers_of(talk)
    assert [each.utterance_count for each in (operator, client, bot)] == [2, 4, 2]
    words = client.words_per_utterance
    assert (words.min, words.max, words.mean) == (1, 7, 4)
    assert client.complete_statistics.words_count == 16
    assert operator.complete_statistics.words_count == 13 + 12


def test_classifiers_count_whole_words_in_any_case(serve: Serve) -> None:
    bench = serve(classifiers=CLASSIFIERS)
    talk_id = bench.upload_chat(
        (0, "cl", "Good day, GOOD sir! Goodness."), (50, "op", "good  day"), (100, "cl", "its LATE, its late")
    )
    results = {
        each.classifier: each for each in bench.analysed(talk_id).text_classifiers.classification_result
    }
    counts = {
        name: {
            each.channel_number.value if each.HasField("channel_number") else None: each.total_count
            for each in result.classifier_statistics
        }
        for name, result in results.items()
    }
    assert counts == {
        "complaint": {None: 2, 0: 0, 1: 2},
        "thanks": {None: 0, 0: 0, 1: 0},
        "greeting": {None: 3, 0: 1, 1: 2},
    }
    whole = results["greeting"].classifier_statistics[0]
    assert list(whole.histograms[0].count_values) == [2, 0, 0, 0, 0, 1, 0, 0, 0, 0]


def test_a_classifier_with_regular_expression_characters_is_taken_literally(serve: Serve) -> None:
    bench = serve(classifiers={"price": ["5.00 (net)"]})
    talk = bench.analysed(bench.upload_chat((0, "cl", "5.00 (net)"), (1, "cl", "5x00 net")))
    assert talk.text_classifiers.classification_result[0].classifier_statistics[0].total_count == 1


def test_messages_are_put_in_the_order_of_time(bench: Bench) -> None:
    talk = bench.analysed(bench.upload_chat((10, "op", "second"), (5, "cl", "first")))
    assert [phrase.phrase.text for phrase in talk.transcription.phrases] == ["first", "second"]


def test_a_chat_is_there_at_once_and_its_numbers_later(bench: Bench) -> None:
    talk_id = bench.upload_chat((0, "cl", "hello"))
    phrase = bench.get(talk_id)[0].transcription.phrases[0]
    assert not phrase.HasField("statistics")
    assert bench.analysed(talk_id).transcription.phrases[0].HasField("statistics")
