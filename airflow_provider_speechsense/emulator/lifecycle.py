"""How far the analysis of a talk is: a plain function of the time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from airflow_provider_speechsense.api.models import Algorithm, ProcessingState
from airflow_provider_speechsense.emulator.faults import TalkFault
from airflow_provider_speechsense.emulator.settings import EmulatorSettings
from airflow_provider_speechsense.emulator.store import StoredTalk

#: In the order in which they run. A chat has nothing to recognise.
_AUDIO = (Algorithm.SPEECHKIT, Algorithm.STATISTICS, Algorithm.CLASSIFIER)
_CHAT = (Algorithm.CLASSIFIER, Algorithm.STATISTICS)


@dataclass(frozen=True)
class Step:
    """One algorithm's turn.

    :param begins: seconds since 1970
    :param fault: why it fails, if it does
    """

    algorithm: Algorithm
    begins: float
    ends: float
    fault: TalkFault | None = None

    def state(self, now: float) -> ProcessingState:
        """Return its state at ``now``."""
        if now < self.begins:
            return ProcessingState.NOT_STARTED
        if now < self.ends:
            return ProcessingState.PROCESSING
        return ProcessingState.FAILED if self.fault else ProcessingState.SUCCESS


@dataclass(frozen=True)
class Progress:
    """The state of a talk at a moment, and the steps that led or will lead there."""

    state: ProcessingState
    steps: tuple[Step, ...]
    now: float

    def of(self, algorithm: Algorithm) -> ProcessingState:
        """Return the state of one algorithm."""
        states = (step.state(self.now) for step in self.steps if step.algorithm is algorithm)
        return next(states, ProcessingState.NOT_STARTED)

    @property
    def finished(self) -> tuple[Step, ...]:
        """The steps that are over, in the order in which they ended."""
        return tuple(step for step in self.steps if step.ends <= self.now)


def algorithms_of(talk: StoredTalk) -> Sequence[Algorithm]:
    """Return the analyses that a talk goes through."""
    return _CHAT if talk.is_chat else _AUDIO


def duration(algorithms: Sequence[Algorithm], settings: EmulatorSettings) -> float:
    """Return how long the analysis takes as a whole, waiting included."""
    return settings.queue_seconds + sum(_seconds(algorithm, algorithms, settings) for algorithm in algorithms)


def progress(talk: StoredTalk, settings: EmulatorSettings, now: float) -> Progress:
    """Return how far a talk is at ``now``."""
    faults = {fault.algorithm: fault for fault in talk.faults if fault.algorithm}
    steps = _run(talk, settings, talk.analysis_begins + settings.queue_seconds, faults)
    broken = next((step for step in steps if step.fault), None)
    if broken and settings.failed_recovers_after is not None:
        again = broken.ends + settings.failed_recovers_after
        if now >= again:
            steps, broken = _run(talk, settings, again, {}), None
    if broken and settings.failed_algorithm_fails_talk:
        steps = steps[: steps.index(broken) + 1]
        if now >= broken.ends:
            return Progress(ProcessingState.FAILED, steps, now)
    if now < steps[0].begins:
        return Progress(ProcessingState.NOT_STARTED, steps, now)
    over = now >= steps[-1].ends
    return Progress(ProcessingState.SUCCESS if over else ProcessingState.PROCESSING, steps, now)


def _run(
    talk: StoredTalk, settings: EmulatorSettings, begins: float, faults: dict[Algorithm, TalkFault]
) -> tuple[Step, ...]:
    steps = []
    algorithms = algorithms_of(talk)
    elapsed = 0.0
    for algorithm in algorithms:
        begun, elapsed = elapsed, elapsed + _seconds(algorithm, algorithms, settings)
        # In whole microseconds, so that what takes 2 s in three parts is over after 2 s.
        since, until = round(begins + begun, 6), round(begins + elapsed, 6)
        steps.append(Step(algorithm, since, until, faults.get(algorithm)))
    return tuple(steps)


def _seconds(algorithm: Algorithm, algorithms: Sequence[Algorithm], settings: EmulatorSettings) -> float:
    return settings.algorithm_seconds.get(algorithm, settings.processing_seconds / len(algorithms))
