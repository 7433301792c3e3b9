"""The statistics of audio, computed from its samples; of MP3 and OggOpus only what the header tells.

Every ratio is a share of the whole recording. There is no transcript, so nothing is said of words.
"""

from __future__ import annotations

import statistics as plain
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from airflow_provider_speechsense.api import protos
from airflow_provider_speechsense.emulator.recordings import Recording
from airflow_provider_speechsense.emulator.speech import (
    SHORTEST_MS,
    Interval,
    duration_ms,
    spans,
    utterances,
)

#: The levels that distributions are told at.
QUANTILES = (0.25, 0.5, 0.75, 0.95)

_messages = protos.analysis
_Channels = Sequence[Sequence[Interval]]


def statistics(recording: Recording) -> Mapping[str, Any]:
    """Return the statistics messages of a recording by their field in Talk, without what is not known."""
    duration = duration_ms(recording)
    if not recording.is_pcm:
        conversation = _messages.ConversationStatistics()
        if duration:
            conversation.conversation_boundaries.CopyFrom(boundaries((0, duration)))
        return {"conversation_statistics": conversation}
    channels = utterances(recording)
    found = {
        "silence_statistics": _silence(channels, duration),
        "conversation_statistics": _conversation(channels, duration),
    }
    if len(channels) > 1:
        found["speech_statistics"] = _simultaneous_speech(channels, duration)
        found["interrupts_statistics"] = _interrupts(channels)
    return found


def whole_seconds(ms: float) -> int:
    """Return the API's other form of a duration; half a second is rounded up."""
    return int(ms + 500) // 1000


def boundaries(interval: Interval) -> Any:
    """Return (begin, end) in ms as AudioSegmentBoundaries."""
    begin, end = interval
    return _messages.AudioSegmentBoundaries(
        start_time_ms=begin, end_time_ms=end, duration_seconds=whole_seconds(end - begin)
    )


def describe(values: Sequence[float]) -> Any:
    """Return the distribution of ``values`` as DescriptiveStatistics, None if there are none."""
    if not values:
        return None
    ordered = sorted(values)
    return _messages.DescriptiveStatistics(
        min=ordered[0],
        max=ordered[-1],
        mean=plain.fmean(ordered),
        std=plain.pstdev(ordered),
        quantiles=[_messages.Quantile(level=level, value=_quantile(ordered, level)) for level in QUANTILES],
    )


def _quantile(ordered: Sequence[float], level: float) -> float:
    place = level * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def _lengths(intervals: Sequence[Interval]) -> list[int]:
    return [end - begin for begin, end in intervals]


def _silence(channels: _Channels, duration: int) -> Any:
    lengths = _lengths(spans(channels, duration, lambda speakers: speakers == 0))
    total = sum(lengths)
    return _messages.SilenceStatistics(
        total_simultaneous_silence_duration_ms=total,
        total_simultaneous_silence_duration_seconds=whole_seconds(total),
        total_simultaneous_silence_ratio=total / duration,
        simultaneous_silence_duration_estimation=describe(lengths),
    )


def _simultaneous_speech(channels: _Channels, duration: int) -> Any:
    lengths = _lengths(spans(channels, duration, lambda speakers: speakers > 1))
    total = sum(lengths)
    return _messages.SpeechStatistics(
        total_simultaneous_speech_duration_ms=total,
        total_simultaneous_speech_duration_seconds=whole_seconds(total),
        total_simultaneous_speech_ratio=total / duration,
        simultaneous_speech_duration_estimation=describe(lengths),
    )


def _interrupts(channels: _Channels) -> Any:
    message = _messages.InterruptsStatistics()
    for channel in range(len(channels)):
        found = list(_interruptions(channels, channel))
        total = sum(_lengths(found))
        message.speaker_interrupts.add(
            speaker_tag=str(channel),
            interrupts_count=len(found),
            interrupts_duration_ms=total,
            interrupts_duration_seconds=whole_seconds(total),
            interrupts=[boundaries(interval) for interval in found],
        )
    return message


def _interruptions(channels: _Channels, channel: int) -> Iterator[Interval]:
    """Yield how long a channel spoke against another that had begun before it."""
    others = [interval for i, intervals in enumerate(channels) if i != channel for interval in intervals]
    for begin, end in channels[channel]:
        spoken_to = max((until for since, until in others if since < begin < until), default=begin)
        # Turns that merely touch are no interruption.
        if min(end, spoken_to) - begin >= SHORTEST_MS:
            yield begin, min(end, spoken_to)


def _conversation(channels: _Channels, duration: int) -> Any:
    message = _messages.ConversationStatistics()
    spoken = [interval for channel in channels for interval in channel]
    if spoken:
        message.conversation_boundaries.CopyFrom(boundaries(_hull(spoken)))
    for number, channel in enumerate(channels):
        lengths = _lengths(channel)
        total = sum(lengths)
        speaker = message.speaker_statistics.add(
            speaker_tag=str(number),
            utterance_count=len(channel),
            utterance_duration_estimation=describe(lengths),
        )
        speaker.complete_statistics.CopyFrom(
            _messages.UtteranceStatistics(
                speaker_tag=str(number),
                speech_boundaries=boundaries(_hull(channel)) if channel else None,
                total_speech_ms=total,
                speech_ratio=total / duration,
                total_silence_ms=duration - total,
                silence_ratio=(duration - total) / duration,
            )
        )
    return message


def _hull(intervals: Sequence[Interval]) -> Interval:
    return min(begin for begin, _ in intervals), max(end for _, end in intervals)
