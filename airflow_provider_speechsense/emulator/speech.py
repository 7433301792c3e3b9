"""When somebody speaks, channel by channel, told from the loudness of the samples alone.

What is found is a list of utterances for each channel, as (begin, end) in ms.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

from airflow_provider_speechsense.emulator.recordings import SAMPLE_BYTES, Recording

#: Times are multiples of it. Shorter than any sound of speech.
FRAME_MS = 20
#: A speaker takes breath in shorter pauses: these do not end an utterance.
PAUSE_MS = 300
#: Clicks are shorter, words are longer.
SHORTEST_MS = 100
#: Peaks below 0.5 % of full scale (-46 dB) are silence even on the cleanest line.
_QUIET = 164
#: A voice swings over some 26 dB; what is this much below its loud parts is not of it.
_SHARE_OF_LOUD = 0.05
#: Speech is well above the noise of its line ...
_OVER_NOISE = 3
#: ... but where somebody speaks nearly all the time, what seems noise is speech, and this share bounds it.
_SHARE_OF_TOP = 0.25
#: The loudest so many frames (0.5 s) may be clicks.
_CLICK_FRAMES = 25
#: In Hz. To find peaks, more samples than this only cost time.
_ENOUGH_RATE = 8000
#: Read at a time, so that hours of audio need no more memory than seconds.
_BLOCK_FRAMES = 500

Interval = tuple[int, int]


def utterances(recording: Recording) -> list[list[Interval]]:
    """Return the utterances of each channel of a PCM recording."""
    rate, channels = recording.facts.sample_rate_hertz or 0, recording.facts.channels or 0
    step = max(rate // _ENOUGH_RATE, 1)
    frame = rate * FRAME_MS // 1000 // step * step
    peaks = [array("H") for _ in range(channels)]
    for samples in _blocks(recording, frame * channels * _BLOCK_FRAMES):
        for channel, found in enumerate(peaks):
            _add_peaks(found, samples[channel :: channels * step], frame // step)
    duration = duration_ms(recording)
    # The last frame may be a part of one.
    return [
        [(begin, min(end, duration)) for begin, end in _intervals(found, frame * 1000 / rate)]
        for found in peaks
    ]


def duration_ms(recording: Recording) -> int:
    """Return how long a recording is, 0 if its header does not tell."""
    seconds = recording.facts.duration_seconds
    # A recording that is there takes time, be it a few samples: ratios are shares of it.
    return max(round(seconds * 1000), 1) if seconds else 0


def spans(
    channels: Sequence[Iterable[Interval]], duration: int, wanted: Callable[[int], bool]
) -> list[Interval]:
    """Return when, from 0 to ``duration`` ms, the number of channels that speak is a wanted one."""
    turns = {0: 0, duration: 0}
    for intervals in channels:
        for begin, end in intervals:
            turns[begin] = turns.get(begin, 0) + 1
            turns[end] = turns.get(end, 0) - 1
    found: list[Interval] = []
    speakers = 0
    for begin, end in pairwise(sorted(turns)):
        speakers += turns[begin]
        if wanted(speakers):
            joins = found and found[-1][1] == begin
            found.append((found.pop()[0] if joins else begin, end))
    return found


def _blocks(recording: Recording, samples: int) -> Iterator[array[int]]:
    left = recording.facts.data_bytes or 0
    with recording.path.open("rb") as file:
        file.seek(recording.pcm_offset)
        while data := file.read(min(samples * SAMPLE_BYTES, left)):
            left -= len(data)
            block = array("h", data)
            if sys.byteorder == "big":
                block.byteswap()
            yield block


def _add_peaks(peaks: array[int], samples: array[int], frame: int) -> None:
    for begin in range(0, len(samples), frame):
        part = samples[begin : begin + frame]
        peaks.append(max(max(part), -min(part)))


def _threshold(peaks: array[int]) -> float:
    ordered = sorted(peaks)
    noise, top = ordered[len(ordered) // 10], ordered[-1]
    loud = ordered[-max(min(_CLICK_FRAMES, len(ordered) // 10), 1)]
    return max(_QUIET, loud * _SHARE_OF_LOUD, min(noise * _OVER_NOISE, top * _SHARE_OF_TOP))


def _intervals(peaks: array[int], frame_ms: float) -> Iterator[Interval]:
    threshold = _threshold(peaks)
    begin = end = None
    for i, peak in enumerate(peaks):
        if peak <= threshold:
            continue
        if end is not None and (i - end) * frame_ms >= PAUSE_MS:
            yield from _long_enough(begin, end, frame_ms)
            begin = None
        begin = i if begin is None else begin
        end = i + 1
    yield from _long_enough(begin, end, frame_ms)


def _long_enough(begin: int | None, end: int | None, frame_ms: float) -> Iterator[Interval]:
    if begin is not None and end is not None and (end - begin) * frame_ms >= SHORTEST_MS:
        yield round(begin * frame_ms), round(end * frame_ms)
