"""JSON lines go out as they came."""

import os
from pathlib import Path

import pytest

from mirror_audit.errors import SinkError
from mirror_audit.sinks.jsonl import JsonlSink, OutputClosedError
from tests.require import require


def test_batches_are_not_looked_into(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(b"old" * 100)

    with JsonlSink.open(path) as sink:
        sink.write(b"not JSON\n")
        sink.write(b"")
        sink.write(b"\xff\x00\n")
        assert path.read_bytes() == b"not JSON\n\xff\x00\n", "nothing waits in a buffer"


@pytest.mark.parametrize(
    ("name", "reason"),
    [("missing/out.jsonl", "No such file or directory"), (".", "Is a directory"), ("a\0b", "null byte")],
)
def test_cannot_be_opened(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(SinkError, match=reason):
        JsonlSink.open(f"{tmp_path}/{name}")


def test_full_disk() -> None:
    full = Path("/dev/full")
    require(Path("/dev/full").exists(), "/dev/full does not exist here")
    with JsonlSink.open(full) as sink, pytest.raises(SinkError, match="No space left on device"):
        sink.write(b"x\n")


def test_reader_went_away() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "wb", buffering=0)
    sink = JsonlSink(stream, "pipe")

    with pytest.raises(OutputClosedError, match="pipe: closed by its reader"):
        sink.write(b"x\n")
    sink.close()
    assert not stream.closed, "it belongs to the caller"
    stream.close()


def test_pipe_that_takes_a_little_at_a_time() -> None:
    reader, writer = os.pipe()
    data = os.urandom(60_000)
    with os.fdopen(writer, "wb", buffering=0) as stream:
        JsonlSink(Slow(stream), "pipe").write(data)  # type: ignore[arg-type]
    with os.fdopen(reader, "rb") as stream:
        assert stream.read() == data


class Slow:
    """A raw stream whose writes are short, as those of pipes may be."""

    def __init__(self, stream: object) -> None:
        self.stream = stream

    def write(self, data: bytes) -> int:
        return self.stream.write(data[:7777])  # type: ignore[attr-defined]

    def flush(self) -> None:
        self.stream.flush()  # type: ignore[attr-defined]
