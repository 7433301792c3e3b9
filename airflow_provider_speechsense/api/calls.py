"""Performing one RPC: deadline, headers, retries. The only code that talks to gRPC."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

import grpc

from airflow_provider_speechsense.api import protos
from airflow_provider_speechsense.api.auth import Credentials
from airflow_provider_speechsense.api.retry import (
    CallKind,
    Failure,
    GiveUp,
    RetryPolicy,
    Wait,
    decide,
    is_quota,
)
from airflow_provider_speechsense.api.status import CallFacts, error_of, failure_of
from airflow_provider_speechsense.api.transport import Channels
from airflow_provider_speechsense.exceptions import SpeechSenseError, UnknownUploadOutcomeError

log = logging.getLogger(__name__)


class _AttemptFailed(Exception):
    """One attempt failed: what that means, and the error to raise if it was the last."""

    def __init__(self, failure: Failure, error: SpeechSenseError) -> None:
        super().__init__(str(error))
        self.failure = failure
        self.error = error


class Caller:
    """Calls methods of the services by ``Service/Method``.

    :param sleep: pauses between attempts; tests put in their own
    """

    def __init__(
        self,
        channels: Channels,
        credentials: Credentials,
        policy: RetryPolicy,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._channels = channels
        self._credentials = credentials
        self._policy = policy
        self._sleep = sleep

    def unary(
        self,
        name: str,
        request: Any,
        *,
        endpoint: str,
        timeout: float,
        kind: CallKind = CallKind.REPEATABLE,
    ) -> Any:
        """Send one message, return the answer.

        :param timeout: seconds for each attempt
        :raises SpeechSenseError: as the last attempt ended
        """
        return self._persevere(kind, lambda: self._attempt(name, request, endpoint, timeout))

    def stream(
        self, name: str, messages: Callable[[], Iterator[Any]], *, endpoint: str, timeout: float
    ) -> Any:
        """Send a stream of messages as a first upload, return the answer.

        :param messages: begins the stream anew for each attempt
        :param timeout: seconds for each attempt
        :raises SpeechSenseError: as the last attempt ended, or what ``messages`` raised
        """

        def attempt() -> Any:
            feed = _Feed(messages())
            try:
                return self._attempt(name, feed, endpoint, timeout)
            except _AttemptFailed:
                if feed.error is None:
                    raise
            finally:
                feed.close()
            # gRPC reported a fault in the feed as its own UNKNOWN. Raised out here, it keeps its cause.
            raise feed.error

        return self._persevere(CallKind.FIRST_UPLOAD, attempt)

    def _persevere(self, kind: CallKind, attempt: Callable[[], Any]) -> Any:
        """Make attempts until one succeeds or the rules say to stop."""
        attempts = refusals = 0
        waited, renewed = 0.0, False
        while True:
            try:
                return attempt()
            except _AttemptFailed as failed:
                failure, error = failed.failure, failed.error
            quota = is_quota(failure)
            refusals += quota
            attempts += not quota
            decision = decide(
                failure,
                kind=kind,
                policy=self._policy,
                attempt=attempts,
                quota_refusals=refusals,
                quota_waited=waited,
                credentials_renewed=renewed,
            )
            if isinstance(decision, GiveUp) and decision.outcome_unknown:
                raise _unknown_outcome(error)
            if isinstance(decision, GiveUp) and failure.unfinished and error.retryable:
                error.hint = f"the recording was not sent to its end, so there is no talk of it; {error.hint}"
            if not isinstance(decision, Wait):
                raise error
            if decision.renew_credentials:
                renewed = True
                if not self._credentials.renew():
                    raise error
                continue
            if quota:
                waited += decision.seconds
            log.warning("Trying again in %.1f s: %s", decision.seconds, error)
            self._sleep(decision.seconds)

    def _attempt(self, name: str, request: Any, endpoint: str, timeout: float) -> Any:
        """Perform the RPC once; ``request`` is a message or, where a stream is due, a ``_Feed``."""
        call = CallFacts(name, endpoint, str(uuid.uuid4()), timeout)
        method = _multicallable(self._channels.get(endpoint), protos.METHODS[name])
        headers = [("x-client-request-id", call.request_id)]
        authorization = self._credentials.authorization()
        if authorization:
            headers.append(("authorization", authorization))
        future = method.future(request, timeout=timeout, metadata=headers)
        try:
            # Airflow raises a task's timeout out of a signal. Waited for here, it cannot strike while gRPC
            # holds a lock, after which closing the channel would hang.
            done: SimpleQueue[Any] = SimpleQueue()
            future.add_done_callback(done.put)
            done.get()
            return future.result()
        except grpc.RpcError as error:
            feed = request if isinstance(request, _Feed) else _WHOLE
            failure = failure_of(error, anything_sent=feed.begun, unfinished=not feed.ended)
            raise _AttemptFailed(failure, error_of(error, call)) from None
        finally:
            # A task that is stopped or out of time must not go on uploading behind its back.
            future.cancel()


class _Feed:
    """The messages of a stream, remembering how far they were asked for and what went wrong with them."""

    def __init__(self, messages: Iterator[Any]) -> None:
        self._messages = messages
        self._asked = 0
        self._closed = False
        #: Whether gRPC was told that this is all: what was cut off before cannot have become a talk.
        self.ended = False
        self.error: Exception | None = None

    @property
    def begun(self) -> bool:
        """Whether any message left: gRPC asks for the second when the first is on its way, not before."""
        return self._asked > 1

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> Any:
        self._asked += 1
        try:
            return next(self._messages)
        except StopIteration:
            if self._closed:
                # An end here would tell the service that it has the whole recording.
                raise InterruptedError("The upload was stopped.") from None
            self.ended = True
            raise
        except Exception as error:
            self.error = error
            raise

    def close(self) -> None:
        """Let a generator close its source, if a thread of gRPC's is not just in it."""
        self._closed = True
        try:
            getattr(self._messages, "close", lambda: None)()
        except ValueError:
            # "generator already executing": it ends by itself when gRPC's thread drops it.
            log.debug("The source is closed when the thread reading it is done.")


class _Whole:
    """What a ``_Feed`` tells, of a single message: nothing is known of how much of it left."""

    begun = ended = True


_WHOLE = _Whole()


def _unknown_outcome(error: SpeechSenseError) -> UnknownUploadOutcomeError:
    return UnknownUploadOutcomeError(
        f"The upload broke off when SpeechSense may already have had all of it: {error.message}",
        method=error.method,
        endpoint=error.endpoint,
        code=error.code,
        request_id=error.request_id,
        server_request_id=error.server_request_id,
    )


def _multicallable(channel: grpc.Channel, method: protos.Method) -> Any:
    make = channel.stream_unary if method.client_streaming else channel.unary_unary
    return make(
        method.path,
        request_serializer=method.request.SerializeToString,
        response_deserializer=method.response.FromString,
    )
