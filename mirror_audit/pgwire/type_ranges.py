"""Binary ranges and multiranges -> the text PostgreSQL prints for them. Compiled.

Source: `range_recv`, `range_out`, `range_serialize` (rangetypes.c), `multirange_recv` and
`multirange_canonicalize` (multirangetypes.c); PostgreSQL manual, 8.17. As the server does on input, ranges of
int4, int8 and date are brought to the form [,), and the ranges of a multirange are sorted and joined.

That takes comparisons before the size of the result is known, hence two more limits: MAX_BOUND_DIGITS and
MAX_RANGES. Beyond them there is no text.
"""

from functools import cmp_to_key
from typing import Final

from librt.strings import BytesWriter, read_i16_be, read_i32_be, read_i64_be
from mypy_extensions import i64

from mirror_audit.pgwire import type_oids as t
from mirror_audit.pgwire.type_datetime import (
    DATE_MAX,
    DAY_NEGATIVE_INFINITY,
    DAY_POSITIVE_INFINITY,
    format_date,
    format_timestamp,
    is_date,
    is_timestamp,
)
from mirror_audit.pgwire.type_numbers import decode_numeric, format_int
from mirror_audit.pgwire.type_scalars import MAX_TEXT

__all__ = ["MAX_BOUND_DIGITS", "MAX_RANGES", "decode_multirange", "decode_range"]

MAX_BOUND_DIGITS: Final = 4000
"""Digits of a numeric bound: enough for any numeric(p, s); plain numeric may have up to 147455."""

MAX_RANGES: Final = 65536
"""Ranges in one multirange."""

_MAX_INT4: Final = 0x7FFFFFFF
_MAX_INT8: Final = 0x7FFFFFFFFFFFFFFF

_EMPTY: Final = 0x01
_LOWER_INCLUSIVE: Final = 0x02
_UPPER_INCLUSIVE: Final = 0x04
_LOWER_INFINITE: Final = 0x08
_UPPER_INFINITE: Final = 0x10

_COMMA: Final = 0x2C
_OPEN: Final = 0x7B
_CLOSE: Final = 0x7D


def decode_range(kind: i64, buf: bytes, start: i64, end: i64) -> bytes | None:
    """A range whose bounds are of the type `kind`: flags, then a length and a value for each bound."""
    one = _read_range(kind, buf, start, end)
    return None if one is None else _range_text(one)


def decode_multirange(kind: i64, buf: bytes, start: i64, end: i64) -> bytes | None:
    """A count, then ranges with their lengths; the server sorts them and joins those that touch."""
    if end - start < 4:
        return None
    count: i64 = i64(read_i32_be(buf, start))
    pos: i64 = start + 4
    # Each range takes a length and its flags.
    if count < 0 or count > (end - pos) // 5 or count > MAX_RANGES:
        return None
    ranges: list[_Range] = []
    while count > 0:
        if end - pos < 4:
            return None
        length: i64 = i64(read_i32_be(buf, pos))
        pos += 4
        if length < 0 or length > end - pos:
            return None
        one = _read_range(kind, buf, pos, pos + length)
        if one is None:
            return None
        if not one.empty:
            ranges.append(one)
        pos += length
        count -= 1
    if pos != end:
        return None
    ranges.sort(key=cmp_to_key(_compare_ranges))
    merged: list[_Range] = []
    for one in ranges:
        if merged and one.lower.compare(merged[-1].upper) <= 0:
            last = merged[-1]
            # Of two equal bounds that differ in their scale (1.0, 1.00) the server keeps the later one.
            if last.lower.compare(one.lower) >= 0:
                last.lower = one.lower
            if last.upper.compare(one.upper) <= 0:
                last.upper = one.upper
        else:
            merged.append(one)
    w = BytesWriter()
    w.append(_OPEN)
    for one in merged:
        if len(w) > 1:
            w.append(_COMMA)
        text = _range_text(one)
        if len(w) + len(text) >= MAX_TEXT:
            return None
        w.write(text)
    w.append(_CLOSE)
    return w.getvalue()


class _Bound:
    """One end of a range.

    `place` orders bounds of equal value on the line: before the value (0: lower inclusive, upper exclusive)
    or behind it (1). With that a range is what lies between two places, and all comparisons are of places.
    """

    def __init__(self, kind: i64, infinite: i64, value: i64, text: bytes, place: i64) -> None:
        self.kind = kind
        # -1 and 1 for the ends of the line, 0 for a value.
        self.infinite = infinite
        # Discrete types and times: the value. numeric: its rank among -Infinity, finite, Infinity, NaN.
        self.value = value
        self.text = text
        self.place = place

    def compare_value(self, other: "_Bound") -> i64:
        """-1, 0 or 1, without regard to `place`."""
        if self.infinite != other.infinite:
            return -1 if self.infinite < other.infinite else 1
        if self.infinite != 0:
            return 0
        if self.value != other.value:
            return -1 if self.value < other.value else 1
        if self.kind != t.NUMERIC or self.value != 0:
            return 0
        return _compare_numerics(self.text, other.text)

    def compare(self, other: "_Bound") -> i64:
        """-1, 0 or 1."""
        order: i64 = self.compare_value(other)
        if order != 0 or self.infinite != 0 or self.place == other.place:
            return order
        return -1 if self.place < other.place else 1

    def format(self) -> bytes:
        """The text as it stands inside a range."""
        if self.infinite != 0:
            return b""
        if self.kind == t.NUMERIC:
            return self.text
        if self.kind == t.DATE:
            return format_date(self.value)
        if self.kind != t.TIMESTAMP and self.kind != t.TIMESTAMPTZ:
            return format_int(self.value)
        text = format_timestamp(self.value, self.kind == t.TIMESTAMPTZ)
        # Of all bounds only these can hold a space.
        return b'"' + text + b'"' if b" " in text else text


class _Range:
    """A range as the server would store it."""

    def __init__(self, lower: _Bound, upper: _Bound, empty: bool) -> None:
        self.lower = lower
        self.upper = upper
        self.empty = empty


def _compare_numerics(a: bytes, b: bytes) -> i64:
    """-1, 0 or 1 for two finite numerics as `decode_numeric` writes them: no leading zeros, no -0."""
    negative = a.startswith(b"-")
    if negative != b.startswith(b"-"):
        return -1 if negative else 1
    if negative:
        a, b = b[1:], a[1:]
    whole, _, fraction = a.partition(b".")
    other_whole, _, other_fraction = b.partition(b".")
    if len(whole) != len(other_whole):
        return -1 if len(whole) < len(other_whole) else 1
    if whole != other_whole:
        return -1 if whole < other_whole else 1
    fraction = fraction.rstrip(b"0")
    other_fraction = other_fraction.rstrip(b"0")
    if fraction == other_fraction:
        return 0
    return -1 if fraction < other_fraction else 1


def _numeric_digits(buf: bytes, start: i64) -> i64:
    """Decimal digits that the numeric's header (8 bytes from `start`) calls for; 0 for NaN and infinities."""
    count: i64 = i64(read_i16_be(buf, start))
    weight: i64 = i64(read_i16_be(buf, start + 2))
    sign: i64 = i64(read_i16_be(buf, start + 4))
    scale: i64 = i64(read_i16_be(buf, start + 6)) & 0xFFFF
    if sign < 0:
        return 0
    return scale if weight < 0 or count == 0 else (weight + 1) * 4 + scale


def _read_bound(kind: i64, buf: bytes, start: i64, end: i64) -> _Bound | None:
    # Here, and nowhere else, the server lets bytes pass that the value leaves over.
    size: i64 = end - start
    if kind == t.NUMERIC:
        count: i64 = i64(read_i16_be(buf, start)) & 0xFFFF if size >= 8 else 0
        if size < 8 + 2 * count or _numeric_digits(buf, start) > MAX_BOUND_DIGITS:
            return None
        text = decode_numeric(buf, start, start + 8 + 2 * count)
        if text is None:
            return None
        rank: i64 = 0
        if text == b"NaN":
            rank = 2
        elif text == b"Infinity":
            rank = 1
        elif text == b"-Infinity":
            rank = -1
        return _Bound(kind, 0, rank, text, 0)
    value: i64
    if kind == t.INT4 or kind == t.DATE:
        if size < 4:
            return None
        value = i64(read_i32_be(buf, start))
        if kind == t.DATE and not is_date(value):
            return None
    else:
        if size < 8:
            return None
        value = read_i64_be(buf, start)
        if kind != t.INT8 and not is_timestamp(value):
            return None
    return _Bound(kind, 0, value, b"", 0)


def _read_range(kind: i64, buf: bytes, start: i64, end: i64) -> _Range | None:
    """Flags, then a length and a value for each bound that the flags do not rule out."""
    if end - start < 1:
        return None
    flags: i64 = buf[start]
    pos: i64 = start + 1
    lower = _Bound(kind, -1, 0, b"", 0)
    upper = _Bound(kind, 1, 0, b"", 0)
    side: i64 = 0
    while side < 2:
        unbounded = _LOWER_INFINITE if side == 0 else _UPPER_INFINITE
        if flags & (_EMPTY | unbounded) == 0:
            if end - pos < 4:
                return None
            length: i64 = i64(read_i32_be(buf, pos))
            pos += 4
            if length < 0 or length > end - pos:
                return None
            bound = _read_bound(kind, buf, pos, pos + length)
            if bound is None:
                return None
            pos += length
            if side == 0:
                lower = bound
                lower.place = 0 if flags & _LOWER_INCLUSIVE else 1
            else:
                upper = bound
                upper.place = 1 if flags & _UPPER_INCLUSIVE else 0
        side += 1
    if pos != end:
        return None
    if flags & _EMPTY:
        return _Range(lower, upper, True)
    if lower.compare_value(upper) > 0:
        return None
    if lower.compare(upper) >= 0:
        return _Range(lower, upper, True)
    if kind != t.NUMERIC and kind != t.TIMESTAMP and kind != t.TIMESTAMPTZ:
        if not _step(lower) or not _step(upper):
            return None
        return _Range(lower, upper, lower.compare(upper) >= 0)
    return _Range(lower, upper, False)


def _step(bound: _Bound) -> bool:
    """Bring a bound of a discrete type to the canonical form [,); False if there is no next value."""
    if bound.infinite != 0 or bound.place == 0:
        return True
    if bound.kind == t.DATE:
        if bound.value == DAY_NEGATIVE_INFINITY or bound.value == DAY_POSITIVE_INFINITY:
            return True
        if bound.value == DATE_MAX:
            return False
    elif bound.value == (_MAX_INT4 if bound.kind == t.INT4 else _MAX_INT8):
        return False
    bound.value += 1
    bound.place = 0
    return True


def _range_text(one: _Range) -> bytes:
    if one.empty:
        return b"empty"
    opening = b"[" if one.lower.infinite == 0 and one.lower.place == 0 else b"("
    closing = b"]" if one.upper.infinite == 0 and one.upper.place == 1 else b")"
    return opening + one.lower.format() + b"," + one.upper.format() + closing


def _compare_ranges(a: _Range, b: _Range) -> int:
    order: i64 = a.lower.compare(b.lower)
    if order == 0:
        order = a.upper.compare(b.upper)
    return order
