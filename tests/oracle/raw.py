"""A client without a driver: sends whatever messages a test makes, and writes down what the server answered.

What it sees is the truth that records are compared with: command tags, rows, errors, transaction status.
"""

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from tests.oracle.recording import Record
from tests.support import pgmsg

__all__ = ["Answer", "RawClient", "disagreements"]

TIME_LIMIT = 30.0


@dataclass(slots=True)
class Answer:
    """How one statement ended: `what` is its tag or SQLSTATE, `value` the first column of its first row.

    `status` is the transaction status that ReadyForQuery told behind it, if it was the last one before.
    """

    kind: Literal["tag", "error", "suspended", "empty", "function"]
    what: str | None
    rows: int
    value: str | None
    status: str | None = None


class RawClient:
    """One connection of a role that needs no password. `answers` grows as the server answers."""

    def __init__(self, port: int, user: str = "batch", database: str = "shop", program: str = "raw") -> None:
        self.answers: list[Answer] = []
        self.pid = 0
        self.copying = False
        self.closed = False
        self._rows = 0
        self._value: str | None = None
        self._told = 0
        self._buffer = b""
        self._socket = socket.create_connection(("127.0.0.1", port), TIME_LIMIT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.send(pgmsg.startup(user, database, application_name=program))
        self.until_ready(1)

    def send(self, *messages: bytes) -> None:
        """Send the messages in one piece."""
        self._socket.sendall(b"".join(messages))

    def ask(self, *messages: bytes, ready: int = 1) -> None:
        """Send and read until ReadyForQuery came `ready` times."""
        self.send(*messages)
        self.until_ready(ready)

    def until_ready(self, count: int = 1) -> None:
        """Read until ReadyForQuery came `count` times, or the connection is closed."""
        while count and not self.closed:
            if self._message() == b"Z":
                count -= 1

    def until(self, *kinds: bytes) -> bytes:
        """Read until a message of one of these types; empty if the connection is closed before."""
        while not self.closed:
            kind = self._message()
            if kind in kinds:
                return kind
        return b""

    def until_value(self, value: str) -> None:
        """Read until the statement that returned `value` is ready."""
        while not self.closed:
            if self._message() == b"Z" and self.answers and self.answers[-1].value == value:
                return

    def close(self, *, politely: bool = True) -> None:
        """End the connection, with Terminate or without."""
        if politely and not self.closed:
            self.send(pgmsg.terminate())
        self._socket.close()

    def _read(self, size: int) -> bytes:
        while len(self._buffer) < size:
            try:
                data = self._socket.recv(1 << 16)
            except ConnectionResetError:
                data = b""
            if not data:
                self.closed = True
                return b""
            self._buffer += data
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    def _message(self) -> bytes:
        head = self._read(5)
        if not head:
            return b""
        body = self._read(int.from_bytes(head[1:], "big") - 4)
        if handler := _HANDLERS.get(head[:1]):
            handler(self, body)
        return head[:1]

    def _row(self, body: bytes) -> None:
        self._rows += 1
        if self._rows == 1 and body[:2] != b"\0\0":
            length = int.from_bytes(body[2:6], "big", signed=True)
            self._value = None if length < 0 else body[6 : 6 + length].decode("utf-8", "replace")

    def _end(self, kind: Literal["tag", "error", "suspended", "empty", "function"], what: str | None) -> None:
        self.answers.append(Answer(kind, what, self._rows, self._value))
        self._rows, self._value, self.copying = 0, None, False

    def _error(self, body: bytes) -> None:
        fields = {field[:1]: field[1:] for field in body.split(b"\0") if field}
        self._end("error", fields[b"C"].decode())

    def _ready(self, body: bytes) -> None:
        if len(self.answers) > self._told:
            self.answers[-1].status = body.decode()
        self._told = len(self.answers)

    def _key(self, body: bytes) -> None:
        self.pid = int.from_bytes(body[:4], "big")

    def _copy_in(self, _: bytes) -> None:
        self.copying = True


_HANDLERS: dict[bytes, Callable[[RawClient, bytes], None]] = {
    b"D": RawClient._row,
    b"C": lambda client, body: client._end("tag", body[:-1].decode()),
    b"s": lambda client, _: client._end("suspended", None),
    b"I": lambda client, _: client._end("empty", None),
    b"V": lambda client, _: client._end("function", None),
    b"E": RawClient._error,
    b"Z": RawClient._ready,
    b"K": RawClient._key,
    b"G": RawClient._copy_in,
}


def disagreements(answers: Sequence[Answer], records: Sequence[Record]) -> list[str]:
    """Where the statement records of a session are not what its client saw, a line each."""
    found: list[str] = []
    left = list(answers)
    for number, record in enumerate(records):
        body = record["statement"]
        if body["outcome"] == "skipped":
            continue
        if not left:
            found.append(f"no answer was seen: {_short(body)}")
            break
        answer = left.pop(0)
        if body["outcome"] == "error" and body["command_tag"] is not None:
            # It had its tag already when the implicit transaction failed to commit.
            if answer.kind != "tag" or answer.what != body["command_tag"] or not left:
                found.append(f"the client saw {answer}, told is {_short(body)}")
                break
            answer = left.pop(0)
        if not _agrees(answer, body):
            found.append(f"the client saw {answer}, told is {_short(body)}")
            break
        # What the server skipped behind an error comes before its ReadyForQuery.
        last = number
        while last + 1 < len(records) and records[last + 1]["statement"]["outcome"] == "skipped":
            last += 1
        if answer.status not in (None, records[last]["statement"]["transaction_after"]):
            found.append(f"behind it the status was {answer.status}: {_short(body)}")
        if answer.value is None:
            continue
        if body["text"] == "select current_user" and body["effective_role"] != answer.value:
            found.append(f"the role was {answer.value}: {_short(body)}")
        # Known: a server (from 18 on) reports a new path before the end of the batch that sets it, and that
        # counts for all of its statements; only the batch's last one is sure to be told as it ran.
        path = body["search_path"] if answer.status is not None else None
        if body["text"] == "show search_path" and path is not None and _words(path) != _words(answer.value):
            found.append(f"the search_path was {answer.value}: {_short(body)}")
    if left and not found:
        found.append(f"the client saw more: {left[:3]}")
    return found


def _short(body: Record) -> str:
    names = ("text", "outcome", "command_tag", "sqlstate", "rows", "transaction_before", "transaction_after")
    return str([body[name] for name in (*names, "transaction", "effective_role", "search_path")])[:500]


def _words(path: str) -> list[str]:
    return [word.strip(" \"'") for word in path.split(",")]


def _agrees(answer: Answer, body: Record) -> bool:
    match answer.kind:
        case "tag":
            return (
                body["outcome"] == "ok"
                and body["command_tag"] == answer.what
                and (body["rows"] or 0) in (_count(answer.what), answer.rows)
            )
        case "error":
            return bool(body["outcome"] == "error" and body["sqlstate"] == answer.what)
        case "suspended":
            return bool(body["outcome"] == "suspended" and body["rows"] == answer.rows)
        case "empty":
            return bool(body["outcome"] == "ok" and body["command_tag"] is None and not body["rows"])
        case "function":
            return bool(body["outcome"] == "ok" and body["protocol"] == "function_call")


def _count(tag: str | None) -> int:
    last = (tag or "").rpartition(" ")[2]
    return int(last) if last.isdigit() else 0
