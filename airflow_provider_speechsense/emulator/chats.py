"""What can be counted in a chat: phrases, words, letters, reactions, and words that set a tag."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from airflow_provider_speechsense.api import protos
from airflow_provider_speechsense.emulator.analysis import boundaries, describe
from airflow_provider_speechsense.emulator.store import ChatMessage

#: A tag's histogram divides the talk into so many equal parts.
HISTOGRAM_PARTS = 10

_messages = protos.analysis
_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")


def words(text: str) -> list[str]:
    """Return the words of a text."""
    return _WORD.findall(text)


def letters(text: str) -> int:
    """Return how many letters a text has."""
    return sum(map(str.isalpha, text))


def timed(messages: Iterable[ChatMessage]) -> list[tuple[int, ChatMessage]]:
    """Return the messages in the order of time, each with its ms since the first."""
    ordered = sorted(messages, key=lambda message: message.sent_at)
    return [(round((message.sent_at - ordered[0].sent_at) * 1000), message) for message in ordered]


def phrases(messages: Sequence[ChatMessage], *, counted: bool) -> list[Any]:
    """Return the messages as Phrase messages; a phrase of a chat takes no time.

    :param counted: whether each has its numbers yet
    """
    return [_phrase(at, message, counted) for at, message in timed(messages)]


def _phrase(at: int, message: ChatMessage, counted: bool) -> Any:
    phrase = _messages.Phrase(channel_number=message.channel, start_time_ms=at, end_time_ms=at)
    phrase.phrase.text = message.text
    if counted:
        numbers = phrase.statistics.statistics
        numbers.speaker_tag = str(message.channel)
        numbers.words_count = len(words(message.text))
        numbers.letters_count = letters(message.text)
    return phrase


def statistics(messages: Sequence[ChatMessage]) -> Mapping[str, Any]:
    """Return the statistics messages of a chat, by their field in Talk."""
    found = _messages.ConversationStatistics(conversation_boundaries=boundaries((0, timed(messages)[-1][0])))
    for channel in sorted({message.channel for message in messages}):
        texts = [message.text for message in messages if message.channel == channel]
        word_counts = [len(words(text)) for text in texts]
        letter_counts = [letters(text) for text in texts]
        speaker = found.speaker_statistics.add(
            speaker_tag=str(channel),
            utterance_count=len(texts),
            words_per_utterance=describe(word_counts),
            letters_per_utterance=describe(letter_counts),
        )
        speaker.complete_statistics.speaker_tag = str(channel)
        speaker.complete_statistics.words_count = sum(word_counts)
        speaker.complete_statistics.letters_count = sum(letter_counts)
    return {"conversation_statistics": found}


def reactions(messages: Sequence[ChatMessage]) -> list[tuple[int, int]]:
    """Return (channel, ms) of each answer to somebody else: who gave it, and how long it took."""
    return [
        (answer.channel, answered - asked)
        for (asked, question), (answered, answer) in pairwise(timed(messages))
        if question.channel != answer.channel
    ]


def classify(messages: Sequence[ChatMessage], classifiers: Mapping[str, Sequence[str]]) -> Any:
    """Count the words and phrases of each classifier, in any case, but only as whole words."""
    found = _messages.TextClassifiers()
    for name, markers in classifiers.items():
        pattern = _pattern(markers)
        hits = [(at, message.channel, len(pattern.findall(message.text))) for at, message in timed(messages)]
        result = found.classification_result.add(classifier=name)
        whole = result.classifier_statistics.add(total_count=sum(count for _, _, count in hits))
        whole.histograms.add(count_values=_histogram([(at, count) for at, _, count in hits]))
        for channel in sorted({channel for _, channel, _ in hits}):
            statistics = result.classifier_statistics.add(
                total_count=sum(count for _, each, count in hits if each == channel)
            )
            statistics.channel_number.value = channel
    return found


def _pattern(markers: Sequence[str]) -> re.Pattern[str]:
    # Longer markers first, or the shorter of two with one beginning would take its place.
    alternatives = sorted((r"\s+".join(map(re.escape, marker.split())) for marker in markers), key=len)
    return re.compile(rf"(?<!\w)(?:{'|'.join(reversed(alternatives))})(?!\w)", re.IGNORECASE)


def _histogram(hits: Sequence[tuple[int, int]]) -> list[int]:
    duration = max(hits[-1][0], 1)
    parts = [0] * HISTOGRAM_PARTS
    for at, count in hits:
        parts[min(at * HISTOGRAM_PARTS // duration, HISTOGRAM_PARTS - 1)] += count
    return parts
