"""Finding talks, and fetching what SpeechSense knows about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_speechsense.boundary import id_list, plain_json, rendered
from airflow_provider_speechsense.exceptions import ConfigurationError
from airflow_provider_speechsense.operators._base import SpeechSenseOperator
from airflow_provider_speechsense.storage import write_json

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

#: More talks than this in XCom are worth a warning: with their transcripts they are megabytes.
_MANY_FOR_XCOM = 100


class _ReadOperator(SpeechSenseOperator):
    """What search and get share.

    :param organization_id: overrides the connection's default, as do ``space_id``, ``project_id`` and
        ``connection_id``
    """

    ui_color = "#e6f4ea"

    def __init__(
        self,
        *,
        organization_id: str | None = None,
        space_id: str | None = None,
        project_id: str | None = None,
        connection_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.organization_id = organization_id
        self.space_id = space_id
        self.project_id = project_id
        self.connection_id = connection_id

    def _scope(self) -> dict[str, Any]:
        return {
            name: rendered(getattr(self, name))
            for name in ("organization_id", "space_id", "project_id", "connection_id")
        }


class SpeechSenseSearchOperator(_ReadOperator):
    """Finds talks and returns their ids, all pages of them.

    :param filters: conditions that must all hold, in the API's field names, such as
        ``{"key": "userMeta.date", "date_range": {"from_value": "2025-04-01T00:00:00Z",
        "to_value": "2025-04-02T00:00:00Z", "bounds_inclusive": {"from_inclusive": True}}}``; bounds are
        exclusive unless said otherwise
    :param query: text that must occur, or a dict with ``text``, ``inverse`` and ``channel_number``
    :param sort: field names, ``-name`` for downwards, or dicts with ``field`` and ``order``
    :param limit: most ids to return; the service itself gives 10,000 for one search
    :param organization_id: overrides the connection's default, as do ``space_id``, ``project_id`` and
        ``connection_id``
    :param speechsense_conn_id: the Airflow connection
    """

    template_fields: Sequence[str] = (
        "filters",
        "query",
        "sort",
        "limit",
        "organization_id",
        "space_id",
        "project_id",
        "connection_id",
        "speechsense_conn_id",
    )

    def __init__(
        self,
        *,
        filters: Sequence[Mapping[str, Any]] | None = None,
        query: str | Mapping[str, Any] | None = None,
        sort: Sequence[str | Mapping[str, Any]] | None = None,
        limit: int | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.query = query
        self.sort = sort
        self.limit = limit

    def execute(self, context: Context) -> list[str]:
        """Ask for page after page."""
        with self._connected(context) as client:
            found = list(
                client.search(
                    filters=rendered(self.filters),
                    query=rendered(self.query),
                    sort=_listed(rendered(self.sort)),
                    limit=_limit(rendered(self.limit)),
                    **self._scope(),
                )
            )
        self.log.info("Found %d talks.", len(found))
        return found


class SpeechSenseGetOperator(_ReadOperator):
    """Fetches talks: returns them, or writes them to ``output_uri`` and returns a manifest.

    :param talk_ids: one id or many, also as lists in a list, which is what a mapped task gives
    :param results_mask: names of the Talk fields wanted, such as ``["transcription", "talk_state"]``; None
        asks for everything, an empty list for no analysis at all
    :param output_uri: path or URI of a JSON file to write, put in place whole or not at all
    :param output_format: ``json``: one array of talks
    :param organization_id: overrides the connection's default, as do ``space_id``, ``project_id`` and
        ``connection_id``
    :param speechsense_conn_id: the Airflow connection
    """

    template_fields: Sequence[str] = (
        "talk_ids",
        "results_mask",
        "output_uri",
        "organization_id",
        "space_id",
        "project_id",
        "connection_id",
        "speechsense_conn_id",
    )

    def __init__(
        self,
        *,
        talk_ids: Sequence[str] | Sequence[Sequence[str]] | str,
        results_mask: Sequence[str] | str | None = None,
        output_uri: str | None = None,
        output_format: str = "json",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.talk_ids = talk_ids
        self.results_mask = results_mask
        self.output_uri = output_uri
        self.output_format = output_format

    def execute(self, context: Context) -> list[dict[str, Any]] | dict[str, Any]:
        """Get the talks in batches, and return or write them."""
        with self._connected(context) as client:
            if self.output_format != "json":
                raise ConfigurationError(
                    f"output_format is {self.output_format!r}.", hint="this release writes json."
                )
            talks = map(
                plain_json,
                client.get(id_list(self.talk_ids), results_mask=rendered(self.results_mask), **self._scope()),
            )
            if output_uri := rendered(self.output_uri):
                count = write_json(output_uri, talks)
                self.log.info("Wrote %d talks to %s.", count, output_uri)
                return {"output_uri": str(output_uri), "output_format": self.output_format, "talks": count}
            found = list(talks)
        if len(found) > _MANY_FOR_XCOM:
            self.log.warning("%d talks go into XCom; give output_uri to write them to a file.", len(found))
        return found


def _listed(sort: Any) -> Any:
    """Return ``sort`` as a list; one name may come alone."""
    return [sort] if isinstance(sort, str) else sort


def _limit(given: int | str | None) -> int | None:
    """Return ``limit`` as a number; a template makes text of it."""
    if given is None:
        return None
    try:
        limit = int(given)
    except (TypeError, ValueError):
        limit = 0
    if limit < 1:
        raise ConfigurationError(f"limit is {given!r}.", hint="give a whole number above 0, or leave it out.")
    return limit
