"""Cut one direction of a PostgreSQL connection into messages, across any segmentation.

A message that lies whole in the bytes at hand is handed on where it is. One that is cut is collected up to a
limit. Result rows and COPY data are counted and skipped by their length, never kept. A gap inside a body of
known length costs that message only; any other gap, or a length that cannot be, ends the framing until
somebody who knows a message boundary calls `reset`.
"""

from typing import Final

from librt.strings import BytesWriter
from mypy_extensions import i64, mypyc_attr

from mirror_audit.counters import Budget
from mirror_audit.octets import i32_at
from mirror_audit.pgwire.messages import (
    LARGE_LIMIT,
    MEDIUM_LIMIT,
    RULE_COPY,
    RULE_EXACT_4,
    RULE_EXACT_5,
    RULE_MEDIUM,
    RULE_ROW,
    RULE_SKIP,
    RULE_SMALL,
    RULE_UNKNOWN,
    SMALL_LIMIT,
    UNKNOWN_LIMIT,
)

__all__ = ["Framer", "MessageSink"]

HEADER: Final = 5  # type byte and length


@mypyc_attr(allow_interpreted_subclasses=True)
class MessageSink:
    """Takes the messages of both directions."""

    def message(self, direction: i64, kind: i64, buf: bytes, start: i64, end: i64, missing: i64) -> None:
        """The body buf[start:end] of a message of type `kind`; its last `missing` bytes are not there."""
        raise NotImplementedError

    def framing_broken(self, direction: i64, kind: i64, length: i64) -> None:
        """A message of type `kind` claims `length`, which cannot be. The framer has stopped."""
        raise NotImplementedError


_NOWHERE: Final = MessageSink()


class Framer:
    """The framing state of one direction. Positions are stream offsets."""

    def __init__(
        self, sink: MessageSink, direction: i64, rules: bytes, max_message_bytes: i64, budget: Budget
    ) -> None:
        self.sink = sink
        self.budget = budget
        self.charged: i64 = 0
        self.direction: i64 = direction
        self.rules = rules
        self.max_message_bytes: i64 = max_message_bytes
        self.stopped: bool = False
        # the message at hand
        self.kind: i64 = 0
        self.message_offset: i64 = 0
        self.message_end: i64 = 0
        self.message_time: i64 = 0
        self.time: i64 = 0  # of the bytes at hand
        # what of it is still to come
        self.header = b""
        self.remaining: i64 = 0
        self.keep: i64 = 0
        self.missing: i64 = 0
        self.partial: BytesWriter | None = None
        # counted and skipped
        self.rows: i64 = 0
        self.first_row_time: i64 = 0
        self.first_row_offset: i64 = 0
        self.copy_rows: i64 = 0
        self.copy_bytes: i64 = 0
        self.unknown: i64 = 0
        self.over_limit: i64 = 0
        self.over_budget: i64 = 0

    def close(self) -> None:
        """Nothing more will be fed: let go of what is buffered, and of the sink, which refers back."""
        self.reset()
        self.stopped = True
        self.sink = _NOWHERE

    def at_boundary(self) -> bool:
        """True if the next byte begins a message."""
        return self.remaining == 0 and len(self.header) == 0 and not self.stopped

    def reset(self) -> None:
        """The next byte begins a message."""
        self.stopped = False
        self.header = b""
        self.remaining = 0
        self.keep = 0
        self.missing = 0
        self.partial = None
        self.budget.give(self.charged)
        self.charged = 0

    def feed(self, buf: bytes, start: i64, end: i64, offset: i64, time: i64) -> None:
        """The next bytes, buf[start:end]; buf[start] has stream offset `offset`."""
        base: i64 = offset - start
        at: i64 = start
        self.time = time
        rules = self.rules
        while at < end and not self.stopped:
            if self.remaining > 0:
                take: i64 = end - at
                if take > self.remaining:
                    take = self.remaining
                self._collect(buf, at, take)
                at += take
                if self.remaining == 0:
                    self._complete()
                continue
            kind: i64
            length: i64
            if len(self.header) == 0 and end - at >= HEADER:
                self.message_offset = base + at
                self.message_time = time
                kind = buf[at]
                length = i32_at(buf, at + 1)
                at += HEADER
            else:
                if len(self.header) == 0:
                    self.message_offset = base + at
                    self.message_time = time
                take = HEADER - len(self.header)
                if take > end - at:
                    take = end - at
                self.header = self.header + buf[at : at + take]
                at += take
                if len(self.header) < HEADER:
                    return
                kind = self.header[0]
                length = i32_at(self.header, 1)
                self.header = b""
            rule: i64 = rules[kind]
            if rule == RULE_ROW and 6 <= length <= LARGE_LIMIT:
                if self.rows == 0:
                    self.first_row_time = self.message_time
                    self.first_row_offset = self.message_offset
                self.rows += 1
            elif not self._possible(rule, kind, length):
                self.stopped = True
                self.sink.framing_broken(self.direction, kind, length)
                return
            body: i64 = length - 4
            self.message_end = self.message_offset + length + 1
            if rule >= RULE_ROW:
                if rule == RULE_COPY:
                    self.copy_rows += 1
                    self.copy_bytes += body
                elif rule == RULE_SKIP:
                    self.sink.message(self.direction, kind, buf, at, at, 0)
                if body <= end - at:
                    at += body
                else:
                    self.kind = kind
                    self.remaining = body
                    self.keep = 0
                continue
            if body <= end - at:
                self.sink.message(self.direction, kind, buf, at, at + body, 0)
                at += body
                continue
            self.kind = kind
            self.remaining = body
            self.missing = 0
            self.keep = body
            if body > self.max_message_bytes:
                self.keep = self.max_message_bytes
                self.over_limit += 1
            self.partial = BytesWriter()

    def gap(self, length: i64) -> bool:
        """`length` bytes are lost. False if the framing is lost with them."""
        if self.stopped:
            return False
        if self.remaining == 0 or length > self.remaining:
            self.stopped = True
            return False
        if self.keep > 0 or self.missing > 0 or self.partial is not None:
            # What follows a hole cannot be told from what an attacker put there: only the part before counts.
            self.missing += length
            self.keep = 0
        self.remaining -= length
        if self.remaining == 0:
            self._complete()
        return True

    def _collect(self, buf: bytes, at: i64, take: i64) -> None:
        keep: i64 = self.keep
        if keep > take:
            keep = take
        partial = self.partial
        if partial is not None:
            if keep > 0:
                if self.budget.take(keep):
                    self.charged += keep
                    partial.write(buf[at : at + keep])
                else:
                    self.over_budget += 1
                    self.missing += keep
                    self.keep = keep  # the rest would not follow on what was kept
            self.missing += take - keep
        self.keep -= keep
        self.remaining -= take

    def _complete(self) -> None:
        partial = self.partial
        if partial is None:
            return
        self.partial = None
        self.budget.give(self.charged)
        self.charged = 0
        missing: i64 = self.missing
        self.missing = 0
        body = partial.getvalue()
        self.sink.message(self.direction, self.kind, body, 0, len(body), missing)

    def _possible(self, rule: i64, kind: i64, length: i64) -> bool:
        """Whether the real peer would accept a message of this type and length."""
        if rule == RULE_EXACT_4:
            return length == 4
        if rule == RULE_EXACT_5:
            return length == 5
        if length < 4:
            return False
        if rule == RULE_SMALL:
            return length <= SMALL_LIMIT
        if rule == RULE_MEDIUM:
            return length <= MEDIUM_LIMIT
        if rule == RULE_UNKNOWN:
            # Only letters and digits have ever been message types.
            letter: bool = 48 <= kind <= 57 or 65 <= kind <= 90 or 97 <= kind <= 122
            if not letter or length > UNKNOWN_LIMIT:
                return False
            self.unknown += 1
            return True
        return length <= LARGE_LIMIT and (rule != RULE_ROW or length >= 6)


# The rules that keep nothing are the highest ones; `feed` relies on it.
assert RULE_ROW < RULE_COPY < RULE_SKIP
