"""Choose records: each filter is a predicate, and a record passes if it satisfies all of them.

Without any filter `FilterSink` is not needed and batches go through unread; with one each record is parsed.
"""

import re
from collections.abc import Callable, Collection
from datetime import UTC, datetime

from mirror_audit.audit.bodies import CancelRequest, LoginFailed, SessionEnd, Statement, StatementProgress
from mirror_audit.audit.record import Record
from mirror_audit.sinks.jsonl import Sink

__all__ = [
    "FilterSink",
    "Predicate",
    "by_database",
    "by_kind",
    "by_text",
    "by_time",
    "by_user",
    "errors_only",
]

Predicate = Callable[[Record], bool]


def by_user(names: Collection[str]) -> Predicate:
    """Records of sessions of these users, and requests to cancel their statements."""

    def predicate(record: Record) -> bool:
        body = record.body if record.kind == "cancel_request" else None
        return record.user in names or (isinstance(body, CancelRequest) and body.target_user in names)

    return predicate


def by_database(names: Collection[str]) -> Predicate:
    """Records of sessions in these databases, and requests to cancel their statements."""

    def predicate(record: Record) -> bool:
        body = record.body if record.kind == "cancel_request" else None
        return record.database in names or (isinstance(body, CancelRequest) and body.target_database in names)

    return predicate


def by_kind(kinds: Collection[str]) -> Predicate:
    """Records of these kinds."""
    return lambda record: record.kind in kinds


def by_time(since: datetime | None, until: datetime | None) -> Predicate:
    """Records from `since` on and before `until` (aware datetimes; None: no bound)."""
    # The record's form of time has a fixed width and one zone, so it can be compared as text.
    first, end = _as_record_time(since), _as_record_time(until)

    def predicate(record: Record) -> bool:
        time = record.envelope.time
        return (first is None or time >= first) and (end is None or time < end)

    return predicate


def errors_only(record: Record) -> bool:
    """Failed statements, refused logins, and sessions that an error ended."""
    match record.body:
        case Statement(outcome=outcome):
            return outcome == "error"
        case LoginFailed():
            return True
        case SessionEnd(sqlstate=sqlstate):
            return sqlstate is not None
        case _:
            return False


def by_text(pattern: re.Pattern[str]) -> Predicate:
    """Records whose SQL text, prepared text or error message holds a match."""

    def predicate(record: Record) -> bool:
        match record.body:
            case Statement(text=text, prepared_text=prepared_text, message=message):
                candidates = (text, prepared_text, message)
            case StatementProgress(text=text):
                candidates = (text, None, None)
            case LoginFailed(message=message) | SessionEnd(message=message):
                candidates = (message, None, None)
            case _:
                return False
        return any(candidate is not None and pattern.search(candidate) for candidate in candidates)

    return predicate


class FilterSink:
    """Pass on the records that satisfy all `predicates`, as the very lines they were."""

    def __init__(self, predicates: Collection[Predicate], target: Sink) -> None:
        self._predicates = predicates
        self._target = target

    def write(self, batch: bytes) -> None:
        """Pass on what fits. Raises what the target raises."""
        kept = bytearray()
        for line in batch.split(b"\n"):
            if line:
                record = Record(line)
                if all(predicate(record) for predicate in self._predicates):
                    kept += line
                    kept += b"\n"
        if kept:
            self._target.write(bytes(kept))

    def close(self) -> None:
        """Close the target."""
        self._target.close()


def _as_record_time(time: datetime | None) -> str | None:
    if time is None:
        return None
    return time.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
