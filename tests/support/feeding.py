"""Frames in, audit records out, without files: what the tests of sessions and of losses need."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from mirror_audit.audit.record import Record
from mirror_audit.config import Limits, Settings
from mirror_audit.pipeline import Pipeline
from tests.support.samples import SAMPLES
from tests.support.wrap import Frame, TcpTrace, read_pcap

__all__ = [
    "SCHEMA_TEXT",
    "Body",
    "Limits",
    "Settings",
    "bodies",
    "check",
    "counters_of",
    "feed",
    "limits",
    "lines",
    "of",
    "one",
    "sample_frames",
    "statements",
]

Body = dict[str, Any]
_OUTER = 14 + 20 + 8 + 8  # Ethernet, IPv4, UDP and VXLAN around each frame of samples/
_DOCS = Path(__file__).parents[2] / "docs"
_SCHEMA = _DOCS / "record.schema.json"
SCHEMA_TEXT = (_DOCS / "record.md").read_text(encoding="utf-8")


def limits(**values: int) -> Settings:
    """Settings with these limits."""
    return Settings(limits=Limits(**values))


def feed(frames: Iterable[Frame], settings: Settings | None = None) -> tuple[list[bytes], dict[str, int]]:
    """The lines that the frames give, and the counters."""
    batches: list[bytes] = []
    pipeline = Pipeline(Settings() if settings is None else settings, batches.append)
    for frame in frames:
        pipeline.frames.frame(frame.bytes, 0, len(frame.bytes), frame.length, 1, frame.time)
    pipeline.close()
    return b"".join(batches).splitlines(), pipeline.counters()


def lines(frames: Iterable[Frame], settings: Settings | None = None) -> list[bytes]:
    """The JSON lines that the frames give."""
    return feed(frames, settings)[0]


def counters_of(frames: Iterable[Frame], settings: Settings | None = None) -> dict[str, int]:
    """The counters behind them."""
    return feed(frames, settings)[1]


@cache
def _validator() -> Draft202012Validator:
    return Draft202012Validator(json.loads(_SCHEMA.read_text(encoding="utf-8")))


def check(line: bytes) -> Body:
    """The record of a line, after a check against the schema, the typed view and the other way round."""
    data: Body = json.loads(line)
    _validator().validate(data)
    record = Record(line)
    assert record.envelope.kind == data["kind"]
    assert record.body is not None
    assert record.to_json() == line
    assert record.to_dict() == data
    return data


def of(trace: TcpTrace | Iterable[Frame], settings: Settings | None = None) -> list[Body]:
    """The checked records of a trace; no two have the same id."""
    found = lines(trace.frames if isinstance(trace, TcpTrace) else trace, settings)
    records = [check(line) for line in found]
    ids = [record["id"] for record in records]
    assert len(set(ids)) == len(ids), "an id came twice"
    return records


def bodies(records: Sequence[Body], kind: str) -> list[Body]:
    """The bodies of one kind, in order."""
    return [record[kind] for record in records if record["kind"] == kind]


def statements(trace: TcpTrace | Iterable[Frame], settings: Settings | None = None) -> list[Body]:
    """The statement bodies of a trace."""
    return bodies(of(trace, settings), "statement")


def one(records: Sequence[Body], kind: str) -> Body:
    """The only body of its kind."""
    (body,) = bodies(records, kind)
    return body


@cache
def sample_frames(name: str) -> tuple[Frame, ...]:
    """The frames of a sample capture, out of their VXLAN wrapping."""
    data = (SAMPLES / f"{name}.pcap").read_bytes()
    inner = bytearray(data[:24])
    at = 24
    while at + 16 <= len(data):
        captured = int.from_bytes(data[at + 8 : at + 12], "little")
        size = captured - _OUTER
        inner += data[at : at + 8] + size.to_bytes(4, "little") * 2
        inner += data[at + 16 + _OUTER : at + 16 + captured]
        at += 16 + captured
    return tuple(replace(frame, wire_length=0) for frame in read_pcap(bytes(inner)))
