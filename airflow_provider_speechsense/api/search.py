"""Building and checking what Search and Get are asked for, from plain dicts in the API's field names."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from airflow_provider_speechsense.api import protos
from airflow_provider_speechsense.api.convert import from_dict, unknown_name
from airflow_provider_speechsense.exceptions import InvalidRequestError, listing

log = logging.getLogger(__name__)

#: The most ids that Search gives in one page, and over all pages of one query.
MAX_PAGE = 1000
MAX_RESULTS = 10_000

_FILTER_KINDS = ("any_match", "int_range", "double_range", "date_range", "duration_range", "boolean_match")
_RANGES = tuple(kind for kind in _FILTER_KINDS if kind.endswith("_range"))

#: Statistics that can be searched by. The keys of the talk's own metadata are the connection's affair.
STATISTICS_KEYS = tuple(
    f"talk.statistics.{name}"
    for name in (
        "duration_seconds",
        "simultaneous_silence.duration_seconds",
        "simultaneous_silence.ratio",
        "simultaneous_silence.max_duration_seconds",
        "silence.duration_seconds",
        "silence.ratio",
        "simultaneous_speech.duration_seconds",
        "simultaneous_speech.ratio",
        "simultaneous_speech.max_duration_seconds",
        "speech.duration_seconds",
        "speech.ratio",
        "interrupts.count",
        "interrupts.duration_seconds",
        "phrases.count",
        "words.count",
        "letters.count",
        "words.count_per_second",
        "letters.count_per_second",
        "reactions.count",
        "reactions.first_duration_seconds",
        "reactions.min_duration_seconds",
        "reactions.max_duration_seconds",
    )
)
_OTHER_KEYS = ("system.created_at", "analysis.speechkit.duration")
#: The guides write ``userMeta.``, an older comment of the API ``user.``.
_OPEN_KEYS = re.compile(
    r"(userMeta|user)\..+|talk\.classifiers\..+\.count|talk\.summarization\.points\..+", re.DOTALL
)
_KEY_FORMS = "userMeta.<metadata key>, talk.classifiers.<name>.count, talk.summarization.points.<id>"


def search_request(
    scope: Mapping[str, str],
    *,
    filters: Iterable[Mapping[str, Any]] | None = None,
    query: str | Mapping[str, Any] | None = None,
    sort: Iterable[str | Mapping[str, Any]] | None = None,
    limit: int | None = None,
    page_size: int = MAX_PAGE,
) -> Any:
    """Build a SearchTalkRequest.

    :param scope: ``organization_id``, ``space_id``, ``project_id``, ``connection_id``, as far as known
    :param filters: dicts such as ``{"key": "userMeta.date", "date_range": {"from_value": "...",
        "bounds_inclusive": {"from_inclusive": True}}}``
    :param query: text to find, or ``{"text": ..., "inverse": ..., "channel_number": ...}``
    :param sort: dicts with ``field`` and ``order``, or names; ``-name`` sorts downwards
    :param limit: how many ids are wanted; a page is not larger
    :raises InvalidRequestError: with every fault found
    """
    faults: list[str] = []
    if not _is_whole(page_size) or not 0 < page_size <= MAX_PAGE:
        faults.append(f"page_size is {page_size!r}: give 1 to {MAX_PAGE}.")
    if limit is not None and not (_is_whole(limit) and limit > 0):
        faults.append(f"limit is {limit!r}: give a number from 1, or None for all.")
    raise_faults(faults, "Search")
    request = protos.speechsense.SearchTalkRequest(page_size=min(page_size, limit or page_size))
    from_dict(request, scope, "scope", faults)
    for i, given in enumerate(_listed(filters, "filters", faults)):
        where = f"filters[{i}]"
        before = len(faults)
        condition = from_dict(request.filters.add(), given, where, faults)
        if len(faults) == before:
            _check_filter(condition, where, faults)
    if query:
        from_dict(request.query, {"text": query} if isinstance(query, str) else query, "query", faults)
        if not request.query.text:
            faults.append("query has no text.")
    for i, given in enumerate(_listed(sort, "sort", faults)):
        order = request.sort_data.fields.add(position=i, order="SORT_ORDER_ASC")
        if isinstance(given, str):
            given = {"field": given.removeprefix("-"), "order": "DESC" if given.startswith("-") else "ASC"}
        from_dict(order, given, f"sort[{i}]", faults)
        if not order.field:
            faults.append(f"sort[{i}] has no field.")
    raise_faults(faults, "Search")
    return request


def pages(search: Callable[[Any], Any], request: Any, limit: int | None) -> Iterator[str]:
    """Yield the ids of all talks that match, each once, page after page.

    :param search: performs one call
    :param limit: stop after so many
    """
    seen: set[str] = set()
    while True:
        page = search(request)
        if not seen and page.talks_count >= MAX_RESULTS and (limit or MAX_RESULTS + 1) > MAX_RESULTS:
            log.warning(
                "The search matches %d talks, but the service gives at most %d: "
                "narrow it, say by userMeta.date, and search several times.",
                page.talks_count,
                MAX_RESULTS,
            )
        # Pages shift while talks are uploaded, so an id may come twice.
        for talk_id in dict.fromkeys(page.talk_ids):
            if talk_id not in seen:
                seen.add(talk_id)
                yield talk_id
                if len(seen) == limit:
                    return
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def check_mask(results_mask: str | Iterable[str] | None) -> list[str] | None:
    """Return the mask's paths, or None for no mask; an empty mask stays an empty list.

    No mask asks for everything, an empty one for no analysis at all. An empty text is more likely a template
    that came to nothing, and is refused.

    :param results_mask: names of Talk fields, as a list or in one text with commas
    :raises InvalidRequestError: naming every unknown path
    """
    if results_mask is None:
        return None
    if isinstance(results_mask, str):
        results_mask = [path.strip() for path in results_mask.split(",")]
    faults: list[str] = []
    paths = _listed(results_mask, "results_mask", faults)
    for path in paths:
        descriptor: Any = protos.speechsense.Talk.DESCRIPTOR
        for name in str(path).split("."):
            if descriptor is None or name not in descriptor.fields_by_name:
                known = list(descriptor.fields_by_name) if descriptor else []
                faults.append(unknown_name(f"results_mask: {path!r}", name, known))
                break
            descriptor = descriptor.fields_by_name[name].message_type
    raise_faults(faults, "Get")
    return paths


def check_talk_ids(talk_ids: str | Iterable[str]) -> list[str]:
    """Return the ids, each once.

    :raises InvalidRequestError: no ids, or one that is no text
    """
    faults: list[str] = []
    ids = [talk_ids] if isinstance(talk_ids, str) else _listed(talk_ids, "talk_ids", faults)
    faults += [f"talk_ids[{i}] is {x!r}, not a talk id." for i, x in enumerate(ids) if not _is_id(x)]
    if not ids and not faults:
        faults.append("talk_ids is empty: give at least one; an upload or a search returns them.")
    raise_faults(faults, "Talks")
    return list(dict.fromkeys(talk_id.strip() for talk_id in ids))


def raise_faults(faults: Sequence[str], subject: str) -> None:
    """Raise one error for all ``faults``, if there are any."""
    if faults:
        raise InvalidRequestError(
            listing(f"{subject} arguments", faults), violations=faults, hint="correct these arguments."
        )


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and value.isprintable()


def _listed(given: Any, where: str, faults: list[str]) -> list[Any]:
    if given is None:
        return []
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        faults.append(f"{where} is {given!r}, not a list.")
        return []
    return list(given)


def _check_filter(built: Any, where: str, faults: list[str]) -> None:
    if not built.key:
        faults.append(f"{where} has no key.")
    elif not _OPEN_KEYS.fullmatch(built.key) and built.key not in (*STATISTICS_KEYS, *_OTHER_KEYS):
        known = [*STATISTICS_KEYS, *_OTHER_KEYS, _KEY_FORMS]
        faults.append(unknown_name(f"{where}.key {built.key!r}", built.key, known))
    kind = built.WhichOneof("filter")
    if kind is None:
        faults.append(f"{where} ({built.key}) has no condition: give one of {', '.join(_FILTER_KINDS)}.")
    elif kind == "any_match" and not built.any_match.values:
        faults.append(f"{where}.any_match has no values.")
    elif kind in _RANGES:
        _check_range(getattr(built, kind), f"{where}.{kind}", faults)


def _check_range(built: Any, where: str, faults: list[str]) -> None:
    # Always sent: what the service makes of a range without it is not documented.
    built.bounds_inclusive.SetInParent()
    has = [side for side in ("from_value", "to_value") if built.HasField(side)]
    if not has:
        faults.append(f"{where} has neither from_value nor to_value.")
    elif len(has) == 2 and _order(built.from_value) > _order(built.to_value):
        faults.append(f"{where}: from_value is greater than to_value.")


def _order(bound: Any) -> Any:
    """Return something of a bound that compares as it does."""
    return bound.value if hasattr(bound, "value") else (bound.seconds, bound.nanos)
