"""A connection fed with bytes, and everything that it said: what the tests of pgwire are made of."""

from collections.abc import Iterable
from typing import Literal

from mirror_audit.counters import Budget, Counters
from mirror_audit.pgwire.connection import Connection
from mirror_audit.pgwire.listener import Listener

__all__ = ["CLIENT", "FEEDS", "SERVER", "Call", "Feed", "Recorder", "Wire", "converse"]

CLIENT, SERVER = 0, 1
Call = tuple[object, ...]
Feed = Literal["whole", "bytes", "inside"]
FEEDS: tuple[Feed, ...] = ("whole", "bytes", "inside")


class Recorder(Listener):
    """Writes down each call: its name and arguments, text as bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.offsets: list[tuple[str, int, int]] = []  # name, first and last offset of the message
        self.times: list[tuple[str, int, int]] = []  # name, times of its first and last byte

    def note(self, name: str, *arguments: object) -> None:
        self.calls.append((name, *arguments))
        self.offsets.append((name, int(self.message_offset), int(self.message_end)))
        self.times.append((name, int(self.message_time), int(self.time)))

    def proxy_header(self, address: bytes, port: int) -> None:
        self.note("proxy_header", address, port)

    def encryption_requested(self, gssapi: bool) -> None:
        self.note("encryption_requested", gssapi)

    def encryption_answered(self, accepted: bool) -> None:
        self.note("encryption_answered", accepted)

    def encrypted(self, direct: bool) -> None:
        self.note("encrypted", direct)

    def tls_client_hello(self, server_name: bytes, alpn: bytes) -> None:
        self.note("tls_client_hello", server_name, alpn)

    def tls_server_hello(self, version: int, cipher: int, alpn: bytes) -> None:
        self.note("tls_server_hello", version, cipher, alpn)

    def startup_message(self, major: int, minor: int, parameters: list[bytes]) -> None:
        self.note("startup_message", major, minor, parameters)

    def cancel_request(self, process_id: int, key_digest: bytes) -> None:
        self.note("cancel_request", process_id, key_digest)

    def authentication_request(self, method: bytes) -> None:
        self.note("authentication_request", method)

    def authentication_mechanism(self, mechanism: bytes) -> None:
        self.note("authentication_mechanism", mechanism)

    def authentication_ok(self) -> None:
        self.note("authentication_ok")

    def negotiate_protocol_version(self, minor: int, unsupported: list[bytes]) -> None:
        self.note("negotiate_protocol_version", minor, unsupported)

    def backend_key_data(self, process_id: int, key_digest: bytes) -> None:
        self.note("backend_key_data", process_id, key_digest)

    def parameter_status(self, name: bytes, value: bytes) -> None:
        self.note("parameter_status", name, value)

    def query(self, buf: bytes, start: int, end: int, missing: int) -> None:
        self.note("query", buf[start:end], missing)

    def parse(
        self, name: bytes, buf: bytes, start: int, end: int, oids: bytes, missing: int, cut: bool
    ) -> None:
        self.note("parse", name, buf[start:end], oids, missing, cut)

    def bind(self, portal: bytes, statement: bytes, values: bytes, missing: int) -> None:
        self.note("bind", portal, statement, values, missing)

    def describe(self, portal: bool, name: bytes) -> None:
        self.note("describe", portal, name)

    def execute(self, portal: bytes, max_rows: int) -> None:
        self.note("execute", portal, max_rows)

    def close(self, portal: bool, name: bytes) -> None:
        self.note("close", portal, name)

    def flush(self) -> None:
        self.note("flush")

    def sync(self) -> None:
        self.note("sync")

    def function_call(self, function: int) -> None:
        self.note("function_call", function)

    def copy_data(self, from_client: bool, rows: int, octets: int) -> None:
        self.note("copy_data", from_client, rows, octets)

    def copy_done(self) -> None:
        self.note("copy_done")

    def terminate(self) -> None:
        self.note("terminate")

    def parse_complete(self) -> None:
        self.note("parse_complete")

    def bind_complete(self) -> None:
        self.note("bind_complete")

    def close_complete(self) -> None:
        self.note("close_complete")

    def parameter_description(self, oids: bytes) -> None:
        self.note("parameter_description", oids)

    def row_description(self) -> None:
        self.note("row_description")

    def no_data(self) -> None:
        self.note("no_data")

    def data_rows(self, rows: int, first_time: int) -> None:
        self.note("data_rows", rows)

    def command_complete(self, buf: bytes, start: int, end: int) -> None:
        self.note("command_complete", buf[start:end])

    def empty_query_response(self) -> None:
        self.note("empty_query_response")

    def portal_suspended(self) -> None:
        self.note("portal_suspended")

    def function_call_response(self) -> None:
        self.note("function_call_response")

    def error_response(self, buf: bytes, start: int, end: int) -> None:
        self.note("error_response", buf[start:end])

    def notice_response(self, buf: bytes, start: int, end: int) -> None:
        self.note("notice_response", buf[start:end])

    def notification_response(self, process_id: int, channel: bytes) -> None:
        self.note("notification_response", process_id, channel)

    def ready_for_query(self, status: int) -> None:
        self.note("ready_for_query", chr(status))

    def copy_in_response(self) -> None:
        self.note("copy_in_response")

    def copy_out_response(self) -> None:
        self.note("copy_out_response")

    def copy_both_response(self) -> None:
        self.note("copy_both_response")

    def malformed(self, direction: int, kind: int) -> None:
        self.note("malformed", int(direction), chr(kind))

    def damaged(self, direction: int, kind: int, missing: int) -> None:
        self.note("damaged", int(direction), chr(kind), missing)

    def lost(self, direction: int, reason: bytes) -> None:
        self.note("lost", int(direction), reason)

    def resumed(self, client: bool, server: bool) -> None:
        self.note("resumed", client, server)

    def rejected(self) -> None:
        self.note("rejected")

    def undecodable(self, direction: int, reason: bytes) -> None:
        self.note("undecodable", int(direction), reason)


class Wire:
    """Both directions of a connection, with their offsets; time goes on by one at each feeding."""

    def __init__(
        self,
        *,
        mid_stream: bool = False,
        max_message_bytes: int = 1 << 20,
        budget: int = 1 << 30,
        feed: Feed = "whole",
    ) -> None:
        self.listener = Recorder()
        self.counters = Counters()
        self.budget = Budget(budget)
        self.connection = Connection(self.listener, mid_stream, max_message_bytes, self.budget, self.counters)
        self.feed: Feed = feed
        self.offsets = [0, 0]
        self.time = 0

    @property
    def calls(self) -> list[Call]:
        return self.listener.calls

    def names(self) -> list[object]:
        return [call[0] for call in self.calls]

    def send(self, direction: int, data: bytes, boundary: int = 0) -> None:
        """Bytes of a direction, in the way of `feed`; the first piece may begin a turn."""
        pieces = [data[i : i + 1] for i in range(len(data))] if self.feed == "bytes" else [data]
        before, behind = (b"Q\0\0\0\xff", b"Z\0\0\0\5I") if self.feed == "inside" else (b"", b"")
        for piece in pieces:
            self.time += 1
            buf = before + piece + behind
            start, end = len(before), len(before) + len(piece)
            self.connection.data(direction, buf, start, end, self.offsets[direction], self.time, boundary)
            self.offsets[direction] += len(piece)
            boundary = 0

    def client(self, data: bytes, boundary: int = 0) -> None:
        self.send(CLIENT, data, boundary)

    def server(self, data: bytes, boundary: int = 0) -> None:
        self.send(SERVER, data, boundary)

    def gap(self, direction: int, length: int) -> None:
        """As `SessionStream` does it."""
        self.time += 1
        self.connection.flush_counts()
        self.connection.gap(direction, self.offsets[direction], length, self.time)
        self.offsets[direction] += length

    def done(self) -> list[Call]:
        """All calls, with what was only counted."""
        self.connection.flush_counts()
        return self.calls


def converse(steps: Iterable[tuple[int, bytes]], feed: Feed = "whole") -> list[Call]:
    """The calls that these bytes of these directions give."""
    wire = Wire(feed=feed)
    for direction, data in steps:
        wire.send(direction, data)
    return wire.done()
