"""The emulator as one object: start it, use it, look at what it was sent, stop it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc

from airflow_provider_speechsense.api import protos
from airflow_provider_speechsense.emulator.calls import CallPipeline, CallRecord
from airflow_provider_speechsense.emulator.faults import BadgeFault, Fault, Script, TalkFault
from airflow_provider_speechsense.emulator.iam import IamTokenService, IssuedTokens
from airflow_provider_speechsense.emulator.relay import Relay
from airflow_provider_speechsense.emulator.services import (
    SERVICES,
    OperationService,
    Service,
    World,
    method_name,
)
from airflow_provider_speechsense.emulator.settings import Access, EmulatorSettings
from airflow_provider_speechsense.emulator.store import Store, StoredTalk


class Emulator:
    """A SpeechSense of one's own. Use it in ``with``, or ``start`` and ``stop`` it.

    :param settings: default: an API key ``emulator-key`` on a free port of loopback, in plain text
    """

    def __init__(self, settings: EmulatorSettings | None = None) -> None:
        self.settings = settings or EmulatorSettings()
        self.clock = self.settings.clock
        self._script = Script()
        #: Tokens given out for authorized keys; ``revoke_all`` ends them.
        self.tokens = IssuedTokens(self.settings.clock, self.settings.iam_token_seconds)
        self._pipeline = CallPipeline(self.settings, self._script, self.tokens)
        self._store: Store | None = None
        self._servers: list[grpc.Server] = []
        self._relays: list[Relay] = []
        self._ports: list[int] = []

    def __enter__(self) -> Emulator:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Serve.

        :raises OSError: the port is taken, or the host is not this machine's
        """
        self._store, self._ports = Store(), []
        world = World(self.settings, self._store, self._script)
        apart: list[type[Service]] = []
        if not self.settings.operations_on_service_endpoint:
            apart = [OperationService]
        try:
            services = [service(world) for service in SERVICES if service not in apart]
            self._serve([*services, IamTokenService(world, self.tokens)], self.settings.port)
            if apart:
                self._serve([service(world) for service in apart], 0)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Cut off every call at once, and remove what was uploaded. Again is harmless.

        A client in this process should have no call on its way here just then: one that is sent, but not
        yet in ``calls_in_flight``, can make grpcio's client (seen in 1.85) repeat it for ever, eating memory.
        """
        for relay in self._relays:
            relay.close()
        for server in self._servers:
            server.stop(grace=0).wait()
        self._relays, self._servers = [], []
        if self._store:
            self._store.close()

    @property
    def address(self) -> str:
        """``host:port``."""
        return self._address(0)

    @property
    def operation_address(self) -> str:
        """``host:port`` of OperationService, the same unless the settings give it an address of its own."""
        return self._address(-1)

    @property
    def port(self) -> int:
        """The port that was chosen."""
        return self._ports[0]

    @property
    def api_key(self) -> str:
        """The first API key, empty if there is none."""
        return next(iter(self.settings.api_keys), "")

    @property
    def calls(self) -> Sequence[CallRecord]:
        """The calls answered so far, oldest first."""
        return list(self._pipeline.records)

    @property
    def calls_in_flight(self) -> int:
        """How many calls came and are not answered yet."""
        return len(self._pipeline.in_flight)

    @property
    def talks(self) -> Sequence[StoredTalk]:
        """Everything uploaded, oldest first, visible or not."""
        return self._stored.talks()

    def talk(self, talk_id: str) -> StoredTalk:
        """Return what was uploaded as this talk.

        :raises KeyError: nothing was
        """
        talk = self._stored.find(talk_id)
        if talk is None:
            raise KeyError(talk_id)
        return talk

    def audio(self, talk_id: str) -> bytes:
        """Return the bytes of a talk as they came; of a part of a badge recording, its samples."""
        recording = self.talk(talk_id).recording
        return recording.read() if recording else b""

    def script(self, *faults: Fault | TalkFault | BadgeFault) -> None:
        """Have things go wrong from now on."""
        for fault in faults:
            if isinstance(fault, TalkFault) and fault.talk_id is not None:
                self.talk(fault.talk_id).faults.append(fault)
            else:
                self._script.add(fault)

    def clear_script(self) -> None:
        """Have nothing go wrong any more that has not yet."""
        self._script.clear()

    def relay(self) -> Relay:
        """Return a second way to the emulator, which can be cut; it closes with the emulator."""
        relay = Relay(self.settings.host, self.port)
        self._relays.append(relay)
        return relay

    @property
    def _stored(self) -> Store:
        if self._store is None:
            raise RuntimeError("the emulator was not started")
        return self._store

    def _address(self, which: int) -> str:
        host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        return f"{host}:{self._ports[which]}"

    def _serve(self, services: Sequence[Service], port: int) -> None:
        settings = self.settings
        options = [
            ("grpc.max_receive_message_length", settings.max_message_bytes),
            ("grpc.max_send_message_length", -1),
            # Without it a second emulator on the same port would take half of the first one's calls.
            ("grpc.so_reuseport", 0),
        ]
        server = grpc.server(ThreadPoolExecutor(settings.threads), options=options)
        server.add_generic_rpc_handlers([self._handlers(service) for service in services])
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        address = f"{host}:{port}"
        try:
            credentials = _tls(settings)
            bound = (
                server.add_secure_port(address, credentials)
                if credentials
                else server.add_insecure_port(address)
            )
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: {error}") from error
        self._ports.append(bound)
        server.start()
        self._servers.append(server)

    def _handlers(self, service: Service) -> Any:
        handlers = {}
        for name, method in protos.METHODS.items():
            service_name, _, rpc = name.partition("/")
            if service_name == service.name:
                path = method.path.rpartition("/")[0].lstrip("/")
                behaviour = getattr(service, method_name(rpc))
                needed = service.access.get(rpc, Access.FULL)
                handlers[rpc] = self._pipeline.handler(name, behaviour, needed)
        return grpc.method_handlers_generic_handler(path, handlers)


def _tls(settings: EmulatorSettings) -> grpc.ServerCredentials | None:
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    pair = (Path(settings.tls_key).read_bytes(), Path(settings.tls_cert).read_bytes())
    ca = Path(settings.client_ca).read_bytes() if settings.client_ca else None
    return grpc.ssl_server_credentials([pair], root_certificates=ca, require_client_auth=ca is not None)
