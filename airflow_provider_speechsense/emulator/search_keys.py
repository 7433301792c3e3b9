"""What a talk can be searched and sorted by: the keys, the filters that fit each, and a talk's values."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_speechsense.api.models import Algorithm, ProcessingState
from airflow_provider_speechsense.emulator import chats
from airflow_provider_speechsense.emulator.analysis import whole_seconds
from airflow_provider_speechsense.emulator.answers import classifiers_of, once, statistics_of
from airflow_provider_speechsense.emulator.connections import Connection, FieldType
from airflow_provider_speechsense.emulator.lifecycle import progress
from airflow_provider_speechsense.emulator.refusal import invalid
from airflow_provider_speechsense.emulator.settings import EmulatorSettings
from airflow_provider_speechsense.emulator.store import StoredTalk
from airflow_provider_speechsense.emulator.values import Value

_INT = ("int_range",)
_DOUBLE = ("double_range",)
_SECONDS = ("int_range", "double_range")
_ANYTHING = ("any_match", "int_range", "double_range", "date_range", "boolean_match")

#: The filters that fit a metadata key, by its declared type; any value can be matched as text.
_BY_TYPE: Mapping[FieldType, Collection[str]] = {
    FieldType.STRING: ("any_match",),
    FieldType.NUMBER: ("any_match", "int_range"),
    FieldType.DECIMAL: ("any_match", "double_range"),
    FieldType.BOOLEAN: ("any_match", "boolean_match"),
    FieldType.DATE: ("any_match", "date_range"),
    FieldType.JSON: ("any_match",),
}
#: By name without the prefix.
_STATISTICS: Mapping[str, Collection[str]] = {
    "duration_seconds": _INT,
    "simultaneous_silence.duration_seconds": _SECONDS,
    "simultaneous_silence.ratio": _DOUBLE,
    "simultaneous_silence.max_duration_seconds": _SECONDS,
    "silence.duration_seconds": _SECONDS,
    "silence.ratio": _DOUBLE,
    "simultaneous_speech.duration_seconds": _SECONDS,
    "simultaneous_speech.ratio": _DOUBLE,
    "simultaneous_speech.max_duration_seconds": _SECONDS,
    "speech.duration_seconds": _SECONDS,
    "speech.ratio": _DOUBLE,
    "interrupts.count": _INT,
    "interrupts.duration_seconds": _INT,
    "phrases.count": _INT,
    "words.count": _INT,
    "letters.count": _INT,
    # The rest of the documented keys need a transcript with times, or are the service's model's.
    "words.count_per_second": _DOUBLE,
    "letters.count_per_second": _DOUBLE,
    "reactions.count": _INT,
    "reactions.first_duration_seconds": _INT,
    "reactions.min_duration_seconds": _INT,
    "reactions.max_duration_seconds": _INT,
}

#: Of one statistic: the value of each channel, and of the whole talk under None.
ByChannel = Mapping[int | None, Value]


@dataclass(frozen=True)
class SearchKey:
    """A key that is known.

    :param filters: the kinds of filter that fit it
    :param values: a talk's values on a channel, or on any if that is None; metadata as text
    :param type: of metadata, if the connection declares it
    """

    name: str
    filters: Collection[str]
    values: Callable[[StoredTalk, int | None], Sequence[Value]]
    type: FieldType | None = None


def search_key(name: str, connection: Connection | None, settings: EmulatorSettings, now: float) -> SearchKey:
    """Return the key of this name.

    :param connection: the one that is searched, if it is declared
    :raises Refusal: there is no such key
    """
    if settings.user_prefix_accepted and name.startswith("user."):
        name = "userMeta." + name.removeprefix("user.")
    if field := _between(name, "userMeta.", ""):
        return _metadata_key(name, field, connection)
    if (classifier := _between(name, "talk.classifiers.", ".count")) in settings.classifiers:
        return SearchKey(name, _INT, lambda talk, channel: _hits(talk, channel, classifier, settings, now))
    if _between(name, "talk.summarization.points.", ""):
        # The answers come from a language model, so that no talk has any.
        return SearchKey(name, ("any_match", "boolean_match"), lambda talk, channel: ())
    if name == "system.created_at":
        return SearchKey(name, ("date_range",), lambda talk, channel: (talk.created_at,))
    if name == "analysis.speechkit.duration":
        return SearchKey(name, ("duration_range",), lambda talk, channel: _present(_audio_seconds(talk)))
    if (statistic := _between(name, "talk.statistics.", "")) in _STATISTICS:
        return SearchKey(
            name,
            _STATISTICS[statistic],
            lambda talk, channel: _pick(_numbers(talk, settings, now).get(statistic, {}), channel),
        )
    raise invalid(f"unknown key {name!r}")


def _between(name: str, prefix: str, suffix: str) -> str:
    """Return the rest of a name that has both ends, else nothing."""
    has_both = name.startswith(prefix) and name.endswith(suffix)
    return name.removeprefix(prefix).removesuffix(suffix) if has_both else ""


def _metadata_key(name: str, field: str, connection: Connection | None) -> SearchKey:
    def values(talk: StoredTalk, channel: int | None) -> Sequence[Value]:
        if channel is None:
            return (talk.fields[field],) if field in talk.fields else ()
        # Roles count from 1, in the order of the channels.
        users = (user for user in talk.users if user.role == channel + 1)
        return tuple(user.fields[field] for user in users if field in user.fields)

    if connection is None:
        return SearchKey(name, _ANYTHING, values)
    if field not in connection.keys:
        raise invalid(f"unknown key {name!r}: the connection does not declare it")
    declared = connection.keys[field].type
    return SearchKey(name, _BY_TYPE[declared], values, declared)


def _pick(values: ByChannel, channel: int | None) -> Sequence[Value]:
    if channel in values:
        return (values[channel],)
    return tuple(values.values()) if channel is None else ()


def _hits(
    talk: StoredTalk, channel: int | None, classifier: str, settings: EmulatorSettings, now: float
) -> Sequence[Value]:
    if not talk.is_chat or not _is_done(talk, Algorithm.CLASSIFIER, settings, now):
        return ()
    for result in classifiers_of(talk, settings).classification_result:
        for each in result.classifier_statistics:
            number = each.channel_number.value if each.HasField("channel_number") else None
            if result.classifier == classifier and number == channel:
                return (each.total_count,)
    return ()


def _is_done(talk: StoredTalk, algorithm: Algorithm, settings: EmulatorSettings, now: float) -> bool:
    return progress(talk, settings, now).of(algorithm) is ProcessingState.SUCCESS


def _audio_seconds(talk: StoredTalk) -> float | None:
    return talk.recording.facts.duration_seconds if talk.recording else None


def _present(value: Value | None) -> Sequence[Value]:
    return () if value is None else (value,)


def _numbers(talk: StoredTalk, settings: EmulatorSettings, now: float) -> Mapping[str, ByChannel]:
    if not _is_done(talk, Algorithm.STATISTICS, settings, now):
        return {}
    compute = _chat_numbers if talk.is_chat else _audio_numbers
    messages = statistics_of(talk)
    found: Mapping[str, ByChannel] = once(talk, "numbers", lambda: compute(talk, messages))
    return found


def _audio_numbers(talk: StoredTalk, messages: Mapping[str, Any]) -> dict[str, ByChannel]:
    found: dict[str, ByChannel] = {}
    if seconds := _audio_seconds(talk):
        found["duration_seconds"] = {None: whole_seconds(seconds * 1000)}
    for name in ("silence", "speech"):
        if message := messages.get(f"{name}_statistics"):
            simultaneous = f"simultaneous_{name}"
            total = f"total_{simultaneous}"
            longest = getattr(message, f"{simultaneous}_duration_estimation").max
            found[f"{simultaneous}.duration_seconds"] = {None: getattr(message, f"{total}_duration_seconds")}
            found[f"{simultaneous}.ratio"] = {None: getattr(message, f"{total}_ratio")}
            found[f"{simultaneous}.max_duration_seconds"] = {None: whole_seconds(longest)}
    speakers = [each.complete_statistics for each in messages["conversation_statistics"].speaker_statistics]
    for name in ("silence", "speech"):
        totals = [getattr(speaker, f"total_{name}_ms") for speaker in speakers]
        found[f"{name}.duration_seconds"] = {i: whole_seconds(total) for i, total in enumerate(totals)}
        found[f"{name}.ratio"] = {i: getattr(each, f"{name}_ratio") for i, each in enumerate(speakers)}
    if interrupts := messages.get("interrupts_statistics"):
        for name in ("count", "duration_seconds"):
            counts = [getattr(each, f"interrupts_{name}") for each in interrupts.speaker_interrupts]
            found[f"interrupts.{name}"] = _summed(dict(enumerate(counts)))
    return found


def _chat_numbers(talk: StoredTalk, messages: Mapping[str, Any]) -> dict[str, ByChannel]:
    conversation = messages["conversation_statistics"]
    speakers = {int(speaker.speaker_tag): speaker for speaker in conversation.speaker_statistics}
    reactions = chats.reactions(talk.messages)
    by_channel: dict[int | None, list[int]] = {None: [ms for _, ms in reactions]}
    for channel in speakers:
        by_channel[channel] = [ms for each, ms in reactions if each == channel]
    given = {channel: times for channel, times in by_channel.items() if times}
    return {
        "duration_seconds": {None: conversation.conversation_boundaries.duration_seconds},
        "phrases.count": _summed({i: speaker.utterance_count for i, speaker in speakers.items()}),
        "words.count": _summed({i: each.complete_statistics.words_count for i, each in speakers.items()}),
        "letters.count": _summed({i: each.complete_statistics.letters_count for i, each in speakers.items()}),
        "reactions.count": {channel: len(times) for channel, times in by_channel.items()},
        "reactions.first_duration_seconds": {i: whole_seconds(times[0]) for i, times in given.items()},
        "reactions.min_duration_seconds": {i: whole_seconds(min(times)) for i, times in given.items()},
        "reactions.max_duration_seconds": {i: whole_seconds(max(times)) for i, times in given.items()},
    }


def _summed(counts: Mapping[int, int]) -> ByChannel:
    found: dict[int | None, Value] = {None: sum(counts.values())}
    for channel, count in counts.items():
        found[channel] = count
    return found
