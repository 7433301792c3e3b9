"""What every operator shares: a client of the connection, closed when the task ends or is killed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_speechsense.boundary import airflow_errors
from airflow_provider_speechsense.exceptions import SpeechSenseError, UnknownUploadOutcomeError
from airflow_provider_speechsense.hooks.speechsense import SpeechSenseHook

if TYPE_CHECKING:
    from airflow_provider_speechsense.api.client import SpeechSenseClient


class SpeechSenseOperator(BaseOperator):
    """Base of the operators.

    :param speechsense_conn_id: the Airflow connection
    """

    def __init__(
        self, *, speechsense_conn_id: str = SpeechSenseHook.default_conn_name, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.speechsense_conn_id = speechsense_conn_id
        self._client: SpeechSenseClient | None = None

    def on_kill(self) -> None:
        """Break off the call under way, and make no other."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    @contextmanager
    def _connected(self) -> Iterator[SpeechSenseClient]:
        """Give a client, and turn errors into Airflow's."""
        with airflow_errors(), SpeechSenseHook(self.speechsense_conn_id).get_conn() as client:
            self._client = client
            try:
                yield client
            except UnknownUploadOutcomeError:
                raise
            except SpeechSenseError as error:
                if self._client is None:
                    # Whoever stops a task, by shutting down a worker perhaps, does not forbid its retries.
                    raise SpeechSenseError("The task was told to stop.", retryable=True) from error
                raise
