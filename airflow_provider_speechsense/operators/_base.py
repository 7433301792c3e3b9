"""What every operator shares: a client of the connection, closed when the task ends or is killed."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_speechsense.boundary import airflow_errors, end_time
from airflow_provider_speechsense.exceptions import SpeechSenseError, UnknownUploadOutcomeError
from airflow_provider_speechsense.hooks.speechsense import SpeechSenseHook

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_speechsense.api.client import SpeechSenseClient

#: Seconds that a call gets even where execution_timeout leaves less: Airflow then ends the task itself.
_SHORTEST_CALL = 0.5


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
    def _connected(self, context: Context) -> Iterator[SpeechSenseClient]:
        """Give a client, and turn errors into Airflow's."""
        with airflow_errors(), self._open(context) as client:
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

    def _open(self, context: Context) -> SpeechSenseClient:
        from airflow_provider_speechsense.api.client import SpeechSenseClient

        settings = SpeechSenseHook(self.speechsense_conn_id).get_settings()
        # Airflow retries a task that runs out of execution_timeout, and an upload with it. A call that ends
        # before, by its own deadline, can say whether a retry is safe.
        left = end_time(context, math.inf, self.execution_timeout) - time.time()
        return SpeechSenseClient(replace(settings, longest_call=max(left, _SHORTEST_CALL)))
