"""A TCP proxy between a driver and a server that records who sent what when: a capture without any privilege.

::

    with RecordingProxy("127.0.0.1", server.port) as proxy:
        psycopg.connect(server.dsn("app", port=proxy.port))
    frames = synthesise(proxy.conversations())

The bytes are those of the real software; the TCP around them (handshake, segments cut at an MSS, ACKs, FIN)
is made by `TcpTrace`, with addresses and ports as given.
"""

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.support.wrap import Direction, Frame, TcpTrace

__all__ = ["Chunk", "Conversation", "RecordingProxy", "synthesise"]

READ_SIZE = 1 << 16
STOP_LIMIT = 20.0


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes as they came from one end; empty: that end closed its direction. `time` is µs since 1970."""

    time: int
    direction: Direction
    data: bytes


@dataclass(slots=True)
class Conversation:
    """One connection: when it was opened and its chunks in order; `reset` if an end aborted it."""

    opened: int
    chunks: list[Chunk] = field(default_factory=list)
    reset: Direction | None = None


class RecordingProxy:
    """Listens on a loopback port of its own (`port`) and forwards each connection to the target.

    Leaving the with block closes the listener and waits until the open connections have ended.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._conversations: list[Conversation] = []
        self._threads: list[threading.Thread] = []
        self._stopping = False

    def __enter__(self) -> Self:
        self._acceptor = threading.Thread(target=self._accept, name="proxy", daemon=True)
        self._acceptor.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping = True
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            pass
        self._acceptor.join()
        self._listener.close()
        for thread in self._threads:
            thread.join(STOP_LIMIT)

    def conversations(self) -> list[Conversation]:
        """The connections so far, in the order in which they were opened."""
        return self._conversations

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            if self._stopping:
                client.close()
                return
            conversation = Conversation(time.time_ns() // 1000)
            self._conversations.append(conversation)
            thread = threading.Thread(target=self._forward, args=(client, conversation), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _forward(self, client: socket.socket, conversation: Conversation) -> None:
        with client, selectors.DefaultSelector() as selector, contextlib.suppress(OSError):
            server = socket.create_connection(self._target)
            with server:
                for one in (client, server):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                routes: dict[socket.socket, tuple[socket.socket, Direction]] = {
                    client: (server, "client"),
                    server: (client, "server"),
                }
                for one in routes:
                    selector.register(one, selectors.EVENT_READ)
                while selector.get_map():
                    for key, _ in selector.select():
                        source = key.fileobj
                        assert isinstance(source, socket.socket)
                        if not self._pump(source, *routes[source], conversation):
                            selector.unregister(source)
                        if conversation.reset:
                            return

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket, who: Direction, conversation: Conversation) -> bool:
        """Forward what can be read; False at the end of this direction."""
        try:
            data = source.recv(READ_SIZE)
        except ConnectionResetError:
            conversation.reset = who
            # The other end is to see an abort too, not an orderly end.
            sink.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            return False
        conversation.chunks.append(Chunk(time.time_ns() // 1000, who, data))
        try:
            if data:
                sink.sendall(data)
            else:
                sink.shutdown(socket.SHUT_WR)
        except OSError:
            # The sink has gone: its own direction tells how.
            return bool(data)
        return bool(data)


def synthesise(
    conversations: Iterable[Conversation],
    *,
    start: int | None = None,
    server: tuple[str, int] = ("10.0.2.20", 5432),
    clients: tuple[str, ...] = ("10.0.1.10",),
    first_port: int = 52340,
    mss: int = 1448,
) -> list[Frame]:
    """The frames an observer would have seen, in order of time; addresses as in `sniffer.as_network`.

    `start` (µs) becomes the time of the first frame; None keeps the clock of the recording.
    """
    frames: list[Frame] = []
    every = list(conversations)
    shift = 0 if start is None or not every else start - every[0].opened
    for number, conversation in enumerate(every):
        trace = TcpTrace(
            (clients[number % len(clients)], first_port + 2 * number),
            server,
            mss=mss,
            client_isn=1_000_000 + number * 7919,
            server_isn=3_000_000 + number * 104729,
            time=conversation.opened + shift,
            tick=3,
        )
        trace.open()
        ended: list[Direction] = []
        for chunk in conversation.chunks:
            trace.time = max(trace.time, chunk.time + shift)
            if chunk.data:
                trace.send(chunk.direction, chunk.data)
            else:
                trace.fin(chunk.direction)
                ended.append(chunk.direction)
        if conversation.reset:
            trace.reset(conversation.reset)
        elif len(ended) == 2:
            trace.ack(ended[0])
        frames += trace.frames
    return sorted(frames, key=lambda frame: frame.time)
