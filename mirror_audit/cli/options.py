"""Values of options: durations, ports, networks, times, patterns, keys; each error shows the right form."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

__all__ = ["duration", "network", "read_key", "regex", "server_port", "utc_time"]

_UNITS: Final = {"us": 1, "ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000}
_DURATION: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(us|ms|s|m|h)")


def duration(value: str) -> int:
    """Microseconds of 200ms, 1.5s, 2m, ... or 0."""
    if value == "0":
        return 0
    match = _DURATION.fullmatch(value)
    if match is None:
        raise click.BadParameter(f"{value!r} is not a duration such as 200ms, 1.5s or 2m.")
    return round(float(match[1]) * _UNITS[match[2]])


def server_port(value: str) -> int | None:
    """A port; None for auto."""
    if value == "auto":
        return None
    if value.isascii() and value.isdecimal() and len(value) <= 5 and 1 <= int(value) <= 0xFFFF:
        return int(value)
    raise click.BadParameter(f"{value!r} is neither a port from 1 to 65535 nor auto.")


def network(value: str) -> tuple[str, tuple[int, ...]]:
    """Name and VNIs of NAME=VNI,VNI,...; whether they are VNIs is for `Settings` to say."""
    name, _, numbers = value.rpartition("=")
    vnis = numbers.split(",")
    if not name or not all(vni.isascii() and vni.isdecimal() and len(vni) <= 8 for vni in vnis):
        raise click.BadParameter(f"{value!r} is not of the form NAME=VNI or NAME=VNI,VNI,...")
    return name, tuple(int(vni) for vni in vnis)


def utc_time(value: str) -> datetime:
    """An aware datetime, UTC; a time without a zone is UTC."""
    try:
        time = datetime.fromisoformat(value)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{value!r} is not a time such as 2026-11-23T05:54:29Z or 2026-11-23."
        ) from None


def regex(value: str) -> re.Pattern[str]:
    """A compiled regular expression of Python's kind."""
    try:
        return re.compile(value)
    except (re.error, RecursionError, OverflowError) as error:
        raise click.BadParameter(f"{value!r} is not a regular expression: {error}.") from None


def read_key(path: str) -> bytes:
    """The bytes of a key file, without line ends at its end. Raises click's UsageError."""
    try:
        return Path(path).read_bytes().rstrip(b"\r\n")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise click.UsageError(f"--redact-key-file {path}: {reason}") from None
