"""Binary numbers -> the text PostgreSQL prints for them: integers, float4, float8, numeric. Compiled.

Floats come out as with `extra_float_digits` 1 (the default since PostgreSQL 12): the shortest decimal that
lies strictly inside the rounding interval. Python's `repr` also accepts a decimal on the interval's edge
(1e23, where PostgreSQL prints 9.999999999999999e+22), so `repr` serves only where no such case exists.
"""

from typing import Final

from librt.strings import BytesWriter, read_f64_be, read_i16_be, read_i32_be, read_i64_be
from mypy_extensions import i64, u8

__all__ = ["decode_float4", "decode_float8", "decode_numeric", "format_float8", "format_int", "format_uint8"]

_ZERO: Final = 0x30
_MINUS: Final = 0x2D
_POINT: Final = 0x2E
_NEGATIVE: Final = 0x4000
_NAN: Final = 0xC000
_INFINITY: Final = 0xD000
_MINUS_INFINITY: Final = 0xF000
_MAX_SCALE: Final = 0x3FFF
_BASE: Final = 10000
_MANTISSA8: Final = 0xFFFFFFFFFFFFF
_FIXED8: Final = 15
_FIXED4: Final = 6
"""Decimal exponents from which on float8 and float4 are printed in scientific notation (as printf's %g)."""


def format_int(value: i64) -> bytes:
    """`value` in decimal."""
    return str(value).encode()


def format_uint8(value: i64) -> bytes:
    """The 64 bits of `value` as an unsigned decimal."""
    if value >= 0:
        return format_int(value)
    wide: int = value
    return str(wide + 0x10000000000000000).encode()


def decode_float4(buf: bytes, start: i64, end: i64) -> bytes | None:
    """float4: IEEE 754 single."""
    if end - start != 4:
        return None
    bits: i64 = i64(read_i32_be(buf, start))
    exponent: i64 = (bits >> 23) & 0xFF
    mantissa: i64 = bits & 0x7FFFFF
    if exponent == 0xFF:
        return _special(bits < 0, mantissa != 0)
    if exponent == 0:
        return _format_float(bits < 0, mantissa, -149, False, _FIXED4)
    edge = mantissa == 0 and exponent > 1
    return _format_float(bits < 0, mantissa | 0x800000, exponent - 150, edge, _FIXED4)


def decode_float8(buf: bytes, start: i64, end: i64) -> bytes | None:
    """float8: IEEE 754 double."""
    if end - start != 8:
        return None
    return format_float8(buf, start)


def format_float8(buf: bytes, start: i64) -> bytes:
    """The float8 in the eight bytes from `start`, which must be there."""
    value = read_f64_be(buf, start)
    # Between these limits the text is repr's, and no shortest decimal lies on an interval's edge.
    if 1e-4 <= value < 1e15 or -1e15 < value <= -1e-4:
        return repr(value).removesuffix(".0").encode()
    bits: i64 = read_i64_be(buf, start)
    exponent: i64 = (bits >> 52) & 0x7FF
    mantissa: i64 = bits & _MANTISSA8
    if exponent == 0x7FF:
        return _special(bits < 0, mantissa != 0)
    if exponent == 0:
        return _format_float(bits < 0, mantissa, -1074, False, _FIXED8)
    edge = mantissa == 0 and exponent > 1
    return _format_float(bits < 0, mantissa | (_MANTISSA8 + 1), exponent - 1075, edge, _FIXED8)


def _special(negative: bool, nan: bool) -> bytes:
    if nan:
        return b"NaN"
    return b"-Infinity" if negative else b"Infinity"


def _format_float(negative: bool, mantissa: i64, exponent: i64, edge: bool, fixed: i64) -> bytes:
    """mantissa * 2**exponent; `edge`: the next smaller float is only half as far away as the next larger."""
    sign = "-" if negative else ""
    if mantissa == 0:
        return (sign + "0").encode()
    value, power = _shortest(mantissa, exponent, edge)
    digits = str(value)
    point = power + len(digits) - 1
    if -4 <= point < fixed:
        if point < 0:
            return (sign + "0." + "0" * (-point - 1) + digits).encode()
        if power >= 0:
            return (sign + digits + "0" * power).encode()
        return (sign + digits[: point + 1] + "." + digits[point + 1 :]).encode()
    text = sign + digits[:1]
    if len(digits) > 1:
        text += "." + digits[1:]
    text += "e-" if point < 0 else "e+"
    return (text + str(abs(point)).rjust(2, "0")).encode()


def _shortest(mantissa: int, exponent: int, edge: bool) -> tuple[int, int]:
    """(d, p): d * 10**p is the shortest decimal strictly inside the rounding interval, the nearest of these.

    Exact integers in place of PostgreSQL's Ryu tables: slower, but it fits on a page and needs no tables.
    """
    value = mantissa * 4
    low = value - (1 if edge else 2)
    high = value + 2
    scale = 1
    if exponent >= 2:
        value <<= exponent - 2
        low <<= exponent - 2
        high <<= exponent - 2
    else:
        scale <<= 2 - exponent
    # The interval is 2**exponent wide (or 3/4 of it), so that it holds a multiple of this power of ten.
    power = ((exponent * 78913) >> 18) - 1
    if power >= 0:
        scale *= int(pow(10, power))
    else:
        factor = int(pow(10, -power))
        value *= factor
        low *= factor
        high *= factor
    first = low // scale + 1
    last = -(-high // scale) - 1
    more = 1
    while -(-first // 10) <= last // 10:
        first = -(-first // 10)
        last //= 10
        more *= 10
        power += 1
    scale *= more
    nearest = (2 * value + scale) // (2 * scale)
    if nearest & 1 and nearest * scale * 2 - scale == 2 * value:
        nearest -= 1
    return min(max(nearest, first), last), power


def decode_numeric(buf: bytes, start: i64, end: i64) -> bytes | None:
    """numeric: digits in base 10000 after a header of count, weight, sign and display scale.

    As `numeric_recv` does: digits beyond the display scale are cut off, a zero has no sign. A few bytes can
    stand for 131072 digits before the point and 16383 after it, as in PostgreSQL; never for more.
    """
    if end - start < 8:
        return None
    count: i64 = i64(read_i16_be(buf, start)) & 0xFFFF
    weight: i64 = i64(read_i16_be(buf, start + 2))
    sign: i64 = i64(read_i16_be(buf, start + 4)) & 0xFFFF
    scale: i64 = i64(read_i16_be(buf, start + 6)) & 0xFFFF
    if end - start != 8 + 2 * count or scale > _MAX_SCALE:
        return None
    i: i64 = start + 8
    while i < end:
        digit: i64 = i64(read_i16_be(buf, i))
        if digit < 0 or digit >= _BASE:
            return None
        i += 2
    if sign == _NAN:
        return b"NaN"
    if sign == _INFINITY:
        return b"Infinity"
    if sign == _MINUS_INFINITY:
        return b"-Infinity"
    if sign != 0 and sign != _NEGATIVE:
        return None
    at: i64 = start + 8
    while at < end and i64(read_i16_be(buf, at)) == 0:
        at += 2
        weight -= 1
    w = BytesWriter()
    if sign == _NEGATIVE and at < end and _is_visible(i64(read_i16_be(buf, at)), weight, scale):
        w.append(_MINUS)
    if at == end or weight < 0:
        w.append(_ZERO)
    else:
        _write_integer_part(w, buf, at, end, weight)
    if scale > 0:
        w.append(_POINT)
        _write_fraction(w, buf, at, end, weight, scale)
    return w.getvalue()


def _is_visible(digit: i64, weight: i64, scale: i64) -> bool:
    """True if a number with this first digit (base 10000, not 0) is not cut down to 0 at `scale`."""
    if weight >= 0:
        return True
    place: i64 = (-weight - 1) * 4 + 1
    if digit < 10:
        place += 3
    elif digit < 100:
        place += 2
    elif digit < 1000:
        place += 1
    return place <= scale


def _write_integer_part(w: BytesWriter, buf: bytes, at: i64, end: i64, weight: i64) -> None:
    digit: i64 = i64(read_i16_be(buf, at))
    if digit >= 1000:
        w.append(u8(_ZERO + digit // 1000))
    if digit >= 100:
        w.append(u8(_ZERO + digit // 100 % 10))
    if digit >= 10:
        w.append(u8(_ZERO + digit // 10 % 10))
    w.append(u8(_ZERO + digit % 10))
    at += 2
    while weight > 0 and at < end:
        digit = i64(read_i16_be(buf, at))
        w.append(u8(_ZERO + digit // 1000))
        w.append(u8(_ZERO + digit // 100 % 10))
        w.append(u8(_ZERO + digit // 10 % 10))
        w.append(u8(_ZERO + digit % 10))
        at += 2
        weight -= 1
    if weight > 0:
        w.write(b"0" * (weight * 4))


def _write_fraction(w: BytesWriter, buf: bytes, at: i64, end: i64, weight: i64, scale: i64) -> None:
    if weight >= 0:
        at += 2 * (weight + 1)
    else:
        zeros: i64 = (-weight - 1) * 4
        if zeros > scale:
            zeros = scale
        if zeros > 0:
            w.write(b"0" * zeros)
            scale -= zeros
    while scale > 0 and at < end:
        digit: i64 = i64(read_i16_be(buf, at))
        unit: i64 = 1000
        while unit > 0 and scale > 0:
            w.append(u8(_ZERO + digit // unit % 10))
            unit //= 10
            scale -= 1
        at += 2
    if scale > 0:
        w.write(b"0" * scale)
