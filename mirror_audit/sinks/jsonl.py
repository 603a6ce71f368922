"""Records as JSON lines, to a file or to standard output: whole batches of bytes, never looked into."""

import os
import sys
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self

from mirror_audit.errors import SinkError

__all__ = ["JsonlSink", "OutputClosedError", "Sink", "silence_stdout"]


class Sink(Protocol):
    """A destination for records. `batch` is whole JSON lines, each with its newline."""

    def write(self, batch: bytes) -> None:
        """Take the batch; raises `SinkError` if it cannot be kept."""

    def close(self) -> None:
        """Write what is pending and let go of the destination."""


class OutputClosedError(SinkError):
    """The reader of standard output is gone (`mirror-audit ... | head`): a reason to stop, not a failure."""


class JsonlSink:
    """Write batches to a file that it makes anew, or to a binary stream that stays its owner's."""

    def __init__(self, stream: BinaryIO, name: str, owned: bool = False) -> None:
        self._stream = stream
        self._name = name
        self._owned = owned

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """A sink to the file `path`, which is replaced. Raises `SinkError` if it cannot be opened."""
        name = os.fspath(path)
        try:
            # Unbuffered: batches are large, and a failure must show at the write that it belongs to.
            stream = Path(name).open("wb", buffering=0)  # noqa: SIM115 - closed in close()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise SinkError(f"{name}: cannot be written: {reason}") from None
        return cls(stream, name, owned=True)

    @classmethod
    def stdout(cls) -> Self:
        """A sink to standard output."""
        return cls(sys.stdout.buffer, "standard output")

    def write(self, batch: bytes) -> None:
        """Write the batch. Raises `OutputClosedError` on a closed pipe, else `SinkError`."""
        try:
            view = batch
            while view:
                written = self._stream.write(view)
                view = view[written:]
            self._stream.flush()
        except BrokenPipeError:
            raise OutputClosedError(f"{self._name}: closed by its reader") from None
        except OSError as error:
            raise SinkError(f"{self._name}: cannot be written: {error.strerror or error}") from None

    def close(self) -> None:
        """Close the file; standard output stays open."""
        if self._owned:
            self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def silence_stdout() -> None:
    """Point standard output to nowhere, so that Python's flush at exit does not complain of a closed pipe."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        return
