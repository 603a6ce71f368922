"""Write JSON text straight into a byte buffer. Compiled: every record goes through here.

The writers append to a `BytesWriter` and never build an intermediate object. Strings are UTF-8 inside and
outside: what needs no escape is copied as it is. Bytes that are not valid UTF-8 become U+FFFD here; whoever
must keep them reversibly writes them a second time as base64 (see `audit.encode`).
"""

from typing import Final

from librt.strings import BytesWriter
from mypy_extensions import i64, u8

__all__ = ["is_plain", "write_hex", "write_int", "write_string", "write_string_slice"]

_HEX: Final = b"0123456789abcdef"
_QUOTE: Final = 0x22
LARGEST_SCALE: Final = 1_000_000_000_000_000_000  # the next power of ten is no i64
_BACKSLASH: Final = 0x5C


def is_plain(buf: bytes, start: i64, end: i64) -> bool:
    """True if buf[start:end] is printable ASCII that JSON needs no escape for."""
    i: i64 = start
    while i < end:
        c: i64 = buf[i]
        if c < 0x20 or c > 0x7E or c == _QUOTE or c == _BACKSLASH:
            return False
        i += 1
    return True


def write_string(w: BytesWriter, value: bytes) -> None:
    """Append `value` (UTF-8) as a JSON string with its quotes."""
    if is_plain(value, 0, len(value)):
        w.append(_QUOTE)
        w.write(value)
        w.append(_QUOTE)
    else:
        _write_escaped(w, value)


def write_string_slice(w: BytesWriter, buf: bytes, start: i64, end: i64) -> None:
    """Append buf[start:end] (UTF-8) as a JSON string with its quotes."""
    write_string(w, buf[start:end])


def _write_escaped(w: BytesWriter, value: bytes) -> None:
    if not value.isascii():
        # Decoding and encoding again is the cheapest full check for valid UTF-8 there is in Python.
        value = value.decode("utf-8", "replace").encode()
    w.append(_QUOTE)
    n: i64 = len(value)
    done: i64 = 0
    i: i64 = 0
    while i < n:
        c: i64 = value[i]
        if c < 0x20 or c == _QUOTE or c == _BACKSLASH or c == 0x7F:
            if i > done:
                w.write(value[done:i])
            done = i + 1
            if c == _QUOTE:
                w.write(b'\\"')
            elif c == _BACKSLASH:
                w.write(b"\\\\")
            elif c == 0x0A:
                w.write(b"\\n")
            elif c == 0x0D:
                w.write(b"\\r")
            elif c == 0x09:
                w.write(b"\\t")
            else:
                w.write(b"\\u00")
                w.append(u8(_HEX[c >> 4]))
                w.append(u8(_HEX[c & 15]))
        i += 1
    if n > done:
        w.write(value[done:n])
    w.append(_QUOTE)


def write_int(w: BytesWriter, value: i64) -> None:
    """Append `value` in decimal. The most negative i64 is never written by this project."""
    if value < 0:
        w.append(0x2D)
        value = -value
    if value < 10:
        w.append(u8(48 + value))
        return
    scale: i64 = 10
    while scale < LARGEST_SCALE and scale * 10 <= value:
        scale *= 10
    while scale > 0:
        w.append(u8(48 + value // scale % 10))
        scale //= 10


def write_hex(w: BytesWriter, value: i64, digits: i64) -> None:
    """Append the low `digits` * 4 bits of `value` in lower-case hexadecimal."""
    shift: i64 = (digits - 1) * 4
    while shift >= 0:
        w.append(u8(_HEX[(value >> shift) & 15]))
        shift -= 4
