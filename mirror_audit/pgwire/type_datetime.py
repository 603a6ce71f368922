"""Binary dates, times and intervals -> the text PostgreSQL prints for them. Compiled.

The output is that of DateStyle ISO, IntervalStyle postgres and TimeZone UTC (PostgreSQL manual, 8.5;
`src/backend/utils/adt/{date,timestamp,datetime}.c`). Since PostgreSQL 10 all servers have integer datetimes.
Values that the server would refuse as out of range are None.
"""

from typing import Final

from librt.strings import BytesWriter, read_i32_be, read_i64_be
from mypy_extensions import i64, u8

__all__ = [
    "DATE_MAX",
    "DATE_MIN",
    "DAY_NEGATIVE_INFINITY",
    "DAY_POSITIVE_INFINITY",
    "decode_date",
    "decode_interval",
    "decode_time",
    "decode_timestamp",
    "decode_timetz",
    "format_date",
    "format_timestamp",
    "is_date",
    "is_timestamp",
]

DAY_NEGATIVE_INFINITY: Final = -0x80000000
DAY_POSITIVE_INFINITY: Final = 0x7FFFFFFF
DATE_MIN: Final = -2451545
DATE_MAX: Final = 2145031948
"""Days from 2000-01-01: 4714-11-24 BC and 5874897-12-31."""

_NEGATIVE_INFINITY: Final = -0x8000000000000000
_POSITIVE_INFINITY: Final = 0x7FFFFFFFFFFFFFFF
_TIMESTAMP_MIN: Final = -211813488000000000
_TIMESTAMP_END: Final = 9223371331200000000
"""Microseconds from 2000-01-01: the first instant of 4714-11-24 BC and of 294277."""

_DAY: Final = 86400000000
_SECOND: Final = 1000000
_ZONE_LIMIT: Final = 16 * 3600
_DAYS_0000_03_01: Final = 730425
"""Days from 0000-03-01 (Gregorian, year 0 being 1 BC) to 2000-01-01."""

_ZERO: Final = 0x30
_COLON: Final = 0x3A
_DASH: Final = 0x2D
_PLUS: Final = 0x2B
_POINT: Final = 0x2E
_SPACE: Final = 0x20


def is_date(days: i64) -> bool:
    """True if the server takes `days` (from 2000-01-01) as a date."""
    return DATE_MIN <= days <= DATE_MAX or days == DAY_NEGATIVE_INFINITY or days == DAY_POSITIVE_INFINITY


def is_timestamp(value: i64) -> bool:
    """True if the server takes `value` (microseconds from 2000-01-01) as a timestamp."""
    if value == _NEGATIVE_INFINITY or value == _POSITIVE_INFINITY:
        return True
    return _TIMESTAMP_MIN <= value < _TIMESTAMP_END


def decode_date(buf: bytes, start: i64, end: i64) -> bytes | None:
    """date: days from 2000-01-01."""
    if end - start != 4:
        return None
    days: i64 = i64(read_i32_be(buf, start))
    if not is_date(days):
        return None
    return format_date(days)


def format_date(days: i64) -> bytes:
    """A date of which `is_date` is true."""
    if days == DAY_POSITIVE_INFINITY:
        return b"infinity"
    if days == DAY_NEGATIVE_INFINITY:
        return b"-infinity"
    w = BytesWriter()
    if _write_date(w, days):
        w.write(b" BC")
    return w.getvalue()


def decode_timestamp(buf: bytes, start: i64, end: i64, zoned: bool) -> bytes | None:
    """timestamp and timestamptz (`zoned`): microseconds from 2000-01-01 00:00 (UTC)."""
    if end - start != 8:
        return None
    value: i64 = read_i64_be(buf, start)
    if not is_timestamp(value):
        return None
    return format_timestamp(value, zoned)


def format_timestamp(value: i64, zoned: bool) -> bytes:
    """A timestamp of which `is_timestamp` is true."""
    if value == _POSITIVE_INFINITY:
        return b"infinity"
    if value == _NEGATIVE_INFINITY:
        return b"-infinity"
    w = BytesWriter()
    days: i64 = value // _DAY
    before_christ = _write_date(w, days)
    w.append(_SPACE)
    _write_time(w, value - days * _DAY)
    if zoned:
        w.write(b"+00")
    if before_christ:
        w.write(b" BC")
    return w.getvalue()


def decode_time(buf: bytes, start: i64, end: i64) -> bytes | None:
    """time: microseconds from midnight; 24:00:00 is a value of its own."""
    if end - start != 8:
        return None
    value: i64 = read_i64_be(buf, start)
    if value < 0 or value > _DAY:
        return None
    w = BytesWriter()
    _write_time(w, value)
    return w.getvalue()


def decode_timetz(buf: bytes, start: i64, end: i64) -> bytes | None:
    """timetz: as time, then the zone in seconds west of UTC."""
    if end - start != 12:
        return None
    value: i64 = read_i64_be(buf, start)
    zone: i64 = i64(read_i32_be(buf, start + 8))
    if value < 0 or value > _DAY or zone <= -_ZONE_LIMIT or zone >= _ZONE_LIMIT:
        return None
    w = BytesWriter()
    _write_time(w, value)
    if zone > 0:
        w.append(_DASH)
    else:
        w.append(_PLUS)
        zone = -zone
    _write_two(w, zone // 3600)
    if zone % 3600 != 0:
        w.append(_COLON)
        _write_two(w, zone // 60 % 60)
        if zone % 60 != 0:
            w.append(_COLON)
            _write_two(w, zone % 60)
    return w.getvalue()


def decode_interval(buf: bytes, start: i64, end: i64) -> bytes | None:
    """interval: microseconds, days, months, each with its own sign.

    All three at their extremes is infinity, as from PostgreSQL 17 on; older servers print a number of years.
    """
    if end - start != 16:
        return None
    # Python's integers: the smallest i64 has no positive counterpart.
    time: int = read_i64_be(buf, start)
    days: int = i64(read_i32_be(buf, start + 8))
    months: int = i64(read_i32_be(buf, start + 12))
    if days == DAY_POSITIVE_INFINITY and months == DAY_POSITIVE_INFINITY and time == _POSITIVE_INFINITY:
        return b"infinity"
    if days == DAY_NEGATIVE_INFINITY and months == DAY_NEGATIVE_INFINITY and time == _NEGATIVE_INFINITY:
        return b"-infinity"
    years = abs(months) // 12
    months_left = abs(months) % 12
    if months < 0:
        years = -years
        months_left = -months_left
    text = ""
    signed = False
    for value, unit in ((years, "year"), (months_left, "mon"), (days, "day")):
        if value != 0:
            # A positive field gets its sign only after a negative one.
            text += (" " if text else "") + ("+" if signed and value > 0 else "") + str(value) + " " + unit
            if value != 1:
                text += "s"
            signed = value < 0
    if time != 0 or not text:
        if text:
            text += " "
        if time < 0:
            text += "-"
        elif signed:
            text += "+"
        size = abs(time)
        text += str(size // 3600000000).rjust(2, "0")
        w = BytesWriter()
        w.write(text.encode())
        rest: i64 = size % 3600000000
        w.append(_COLON)
        _write_minutes(w, rest)
        return w.getvalue()
    return text.encode()


def _write_date(w: BytesWriter, days: i64) -> bool:
    """Append year, month and day; True if the year is before Christ (which the caller says at the end)."""
    shifted: i64 = days + _DAYS_0000_03_01
    era: i64 = shifted // 146097
    day_of_era: i64 = shifted - era * 146097
    year_of_era: i64 = (day_of_era - day_of_era // 1460 + day_of_era // 36524 - day_of_era // 146096) // 365
    day_of_year: i64 = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    # Months counted from March, so that the leap day is the last one of the year.
    march_month: i64 = (5 * day_of_year + 2) // 153
    day: i64 = day_of_year - (153 * march_month + 2) // 5 + 1
    month: i64 = march_month + 3
    year: i64 = year_of_era + era * 400
    if month > 12:
        month -= 12
        year += 1
    before_christ = year <= 0
    if before_christ:
        year = 1 - year
    if year >= 10000:
        w.write(str(year).encode())
    else:
        _write_two(w, year // 100)
        _write_two(w, year % 100)
    w.append(_DASH)
    _write_two(w, month)
    w.append(_DASH)
    _write_two(w, day)
    return before_christ


def _write_time(w: BytesWriter, value: i64) -> None:
    _write_two(w, value // 3600000000)
    w.append(_COLON)
    _write_minutes(w, value % 3600000000)


def _write_minutes(w: BytesWriter, value: i64) -> None:
    """Append minutes, seconds and the fraction without its trailing zeros; `value` is less than an hour."""
    _write_two(w, value // 60000000)
    w.append(_COLON)
    _write_two(w, value // _SECOND % 60)
    fraction: i64 = value % _SECOND
    if fraction == 0:
        return
    w.append(_POINT)
    unit: i64 = 100000
    while fraction > 0:
        w.append(u8(_ZERO + fraction // unit))
        fraction %= unit
        unit //= 10


def _write_two(w: BytesWriter, value: i64) -> None:
    w.append(u8(_ZERO + value // 10))
    w.append(u8(_ZERO + value % 10))
