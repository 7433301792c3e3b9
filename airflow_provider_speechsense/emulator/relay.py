"""A TCP relay in front of the emulator, whose connections can really break."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading

#: Read at a time.
_PIECE = 65_536
#: Closing with lingering for 0 s sends a reset, as a broken connection does, instead of a polite end.
_RESET = struct.pack("ii", 1, 0)


class Relay:
    """Passes bytes between its own port and the emulator's, until it is told to break.

    :param host: of the emulator; the relay listens on the same
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server((host, 0))
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._cut_after: int | None = None
        self._cuts = 0
        #: Bytes from clients, since the start or the last cut.
        self.received = 0
        threading.Thread(target=self._accept, name="relay", daemon=True).start()

    @property
    def address(self) -> str:
        """``host:port``."""
        host, port = self._listener.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def cut_after(self, received_bytes: int, count: int = 1) -> None:
        """Reset the connection on which, from now on, so many bytes came from clients; ``count`` times."""
        with self._lock:
            self._cut_after, self._cuts, self.received = received_bytes, count, 0

    def cut(self) -> None:
        """Reset every connection there is."""
        with self._lock:
            for each in self._open:
                _reset(each)
            self._open.clear()

    def close(self) -> None:
        """Stop listening, and reset what is open."""
        # A closed socket does not wake the thread that waits in accept; one shut down does.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target)
            except OSError:
                _reset(client)
                continue
            with self._lock:
                self._open |= {client, server}
            for pair in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pass, args=pair, name="relay", daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(_PIECE):
                room = self._room_for(len(piece)) if counted else len(piece)
                target.sendall(piece[:room])
                if room < len(piece):
                    break
        with self._lock:
            self._open.discard(source)
        _reset(source)
        # What came before the break arrives. The other thread ends when the target closes in its turn.
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def _room_for(self, size: int) -> int:
        """Count what came, and return how much of it may pass."""
        with self._lock:
            before, self.received = self.received, self.received + size
            if self._cut_after is None or self.received <= self._cut_after:
                return size
            room, self.received = self._cut_after - before, 0
            self._cuts -= 1
            if not self._cuts:
                self._cut_after = None
            return room


def _reset(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        # Wakes the thread that waits in recv, as close alone does not.
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
