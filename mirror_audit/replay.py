"""Read captures from files and give their audit records: the library's front door.

::

    for record in replay("capture-*.pcap"):
        if record.statement is not None:
            print(record.time, record.user, record.statement.text)

All files of one call are one stream through one `Pipeline`, so a session may span rotated files. Memory does
not depend on their size: one block is read at a time and its records are handed out before the next.
"""

import glob
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TypedDict, Unpack

from mirror_audit.audit.record import Record
from mirror_audit.capture.files import CaptureFile, open_capture
from mirror_audit.config import Limits, Redact, Settings
from mirror_audit.errors import CaptureError, ConfigError
from mirror_audit.pipeline import Pipeline

__all__ = ["ReplayOptions", "expand", "read_captures", "replay"]


class ReplayOptions(TypedDict, total=False):
    """The fields of `Settings`, as keyword arguments."""

    server_ports: tuple[int, ...]
    auto_ports: bool
    vxlan_ports: tuple[int, ...]
    geneve_ports: tuple[int, ...]
    networks: Mapping[int, str]
    redact: Redact
    redact_key: bytes | None
    trust_first_segment: bool
    limits: Limits


def replay(
    *paths: str | os.PathLike[str], settings: Settings | None = None, **options: Unpack[ReplayOptions]
) -> Iterator[Record]:
    """The records of the captures `paths` (names, glob patterns, "-" for standard input), lazily.

    Either `settings` or single fields of it as keyword arguments; neither: the defaults. Raises ConfigError
    at once if they cannot be used. If a file is missing, no capture or damaged, all records of what comes
    before are given first, then CaptureError is raised.
    """
    if settings is not None and options:
        raise ConfigError("give either settings or single options, not both")
    chosen = settings if settings is not None else Settings(**options)
    return _records(expand(os.fspath(path) for path in paths), chosen)


def read_captures(paths: Iterable[str], pipeline: Pipeline) -> Iterator[CaptureFile | CaptureError]:
    """Feed the files to `pipeline` in order and flush it after each block.

    Yields the file after each block of it, and for a file that is unusable or damaged its error; then the
    next file has its turn. The caller closes the pipeline.
    """
    for path in paths:
        try:
            with open_capture(path) as capture:
                while capture.read_block(pipeline.frames):
                    pipeline.flush()
                    yield capture
        except CaptureError as error:
            pipeline.flush()
            yield error


def expand(paths: Iterable[str]) -> list[str]:
    """Names and glob patterns to names.

    What a pattern matches is sorted as people do, so x.pcap2 comes before x.pcap10. A name that exists is
    never taken for a pattern; a pattern without a match stays as it is, for `open_capture` to complain about.
    """
    names: list[str] = []
    for path in paths:
        matches = (
            sorted(glob.glob(path), key=_natural)
            if glob.has_magic(path) and not os.path.lexists(path)
            else []
        )
        names.extend(matches or [path])
    return names


def _records(paths: list[str], settings: Settings) -> Iterator[Record]:
    batches: list[bytes] = []
    pipeline = Pipeline(settings, batches.append)
    failure: CaptureError | None = None
    for step in read_captures(paths, pipeline):
        if isinstance(step, CaptureError):
            failure = step
            break
        yield from _drain(batches)
    pipeline.close()
    yield from _drain(batches)
    if failure is not None:
        raise failure


def _drain(batches: list[bytes]) -> Iterator[Record]:
    pending = batches[:]
    batches.clear()
    for batch in pending:
        for line in batch.split(b"\n"):
            if line:
                yield Record(line)


def _natural(name: str) -> list[tuple[int, str]]:
    # Digits compare as numbers and before letters.
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
