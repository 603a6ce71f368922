"""Scripted conversations: what a client and a server say, replayed, and the records that come of it.

Every record is also held against the published schema and read back by `Record`, so that no test of a record
need do so.
"""

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from mirror_audit.audit.record import Record
from mirror_audit.config import Limits, Settings
from mirror_audit.pipeline import Pipeline
from tests.support.pgmsg import command_complete, data_row, login, ready, row_description, startup
from tests.support.wrap import Frame, TcpTrace

__all__ = ["SELECTED", "Body", "Records", "Turn", "done", "opened", "records", "talk"]

Body = dict[str, Any]
Turn = tuple[bytes, bytes]

SELECTED = row_description() + data_row("1") + command_complete("SELECT 1")
_SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "record.schema.json"


@cache
def _validator() -> Draft202012Validator:
    return Draft202012Validator(json.loads(_SCHEMA.read_text()))


class Records(list[Body]):
    """The records of one replay, in order, as JSON objects; `counters` are the pipeline's."""

    counters: dict[str, int]

    def bodies(self, kind: str) -> list[Body]:
        """The bodies of the records of one kind."""
        return [one[kind] for one in self if one["kind"] == kind]

    @property
    def statements(self) -> list[Body]:
        """The bodies of the statement records."""
        return self.bodies("statement")

    def columns(self, *names: str) -> list[Any]:
        """These fields of every statement: tuples, or plain values if it is one field."""
        rows = [tuple(body[name] for name in names) for body in self.statements]
        return [row[0] for row in rows] if len(names) == 1 else rows

    def ids(self, kind: str = "") -> list[str]:
        """The ids of the records, of one kind or all."""
        return [one["id"] for one in self if not kind or one["kind"] == kind]


def done(*tags: str, status: str = "I") -> bytes:
    """A CommandComplete for each tag, then ReadyForQuery."""
    return b"".join(command_complete(tag) for tag in tags) + ready(status)


def opened(port: int = 40000, *, server_port: int = 5432, greeting: bytes = b"", **options: Any) -> TcpTrace:
    """A connection that is logged in; `options` are startup parameters."""
    trace = TcpTrace(client=("10.0.1.10", port), server=("10.0.2.20", server_port))
    trace.open()
    trace.client(startup("app", "shop", **options))
    trace.server(greeting or login())
    return trace


def talk(*turns: Turn) -> TcpTrace:
    """A session of these turns (what the client sends, what the server answers), from start to end."""
    trace = opened()
    for request, reply in turns:
        if request:
            trace.client(request)
        if reply:
            trace.server(reply)
    trace.close()
    return trace


def records(
    source: TcpTrace | Iterable[Frame], *, limits: dict[str, int] | None = None, **settings: Any
) -> Records:
    """The records of a trace or of frames."""
    lines: list[bytes] = []
    pipeline = Pipeline(Settings(limits=Limits(**(limits or {})), **settings), lines.append)
    for frame in source.frames if isinstance(source, TcpTrace) else source:
        pipeline.frames.frame(frame.bytes, 0, len(frame.bytes), frame.length, 1, frame.time)
    pipeline.close()
    found = Records()
    for line in b"".join(lines).splitlines():
        record = Record.from_json(line)
        body = record.to_dict()
        _validator().validate(body)
        assert Record.from_json(record.to_json()) == record
        found.append(body)
    found.counters = pipeline.counters()
    return found
