"""Binary arrays and vectors -> the text PostgreSQL prints for them. Compiled.

Source: `array_recv` and `array_out` (arrayfuncs.c), `int2vectorrecv` (int.c); PostgreSQL manual, 8.15. No
built-in container can hold itself, so that nesting ends at an array of multiranges. Sizes claimed in a header
are checked against the bytes that follow before anything is made of them.
"""

from typing import Final

from librt.strings import BytesWriter, read_i32_be
from mypy_extensions import i64, u8

from mirror_audit.pgwire import type_oids as t
from mirror_audit.pgwire.type_numbers import format_int
from mirror_audit.pgwire.type_oids import ARRAY_ELEMENT, MULTIRANGE_RANGE, RANGE_BOUND
from mirror_audit.pgwire.type_ranges import decode_multirange, decode_range
from mirror_audit.pgwire.type_scalars import MAX_TEXT, decode_scalar

__all__ = ["decode_container"]

_MAX_DIMENSIONS: Final = 6
_MAX_INT4: Final = 0x7FFFFFFF
_NULL: Final = -1
_FIRST_NOT_BUILT_IN: Final = 10000

_QUOTE: Final = 0x22
_BACKSLASH: Final = 0x5C
_COMMA: Final = 0x2C
_SEMICOLON: Final = 0x3B
_OPEN: Final = 0x7B
_CLOSE: Final = 0x7D
_SPACE: Final = 0x20


def decode_container(oid: i64, buf: bytes, start: i64, end: i64) -> bytes | None:
    """The text of buf[start:end], a value of the array, vector, range or multirange type `oid`, or None.

    The caller has checked 0 <= start <= end <= len(buf).
    """
    key: int = oid
    element = ARRAY_ELEMENT.get(key)
    if element is not None:
        return _array(element, buf, start, end)
    return _decode_inner(oid, buf, start, end)


def _decode_inner(oid: i64, buf: bytes, start: i64, end: i64) -> bytes | None:
    """The containers that can be elements of an array."""
    if oid == t.INT2VECTOR:
        return _vector(t.INT2, buf, start, end)
    if oid == t.OIDVECTOR:
        return _vector(t.OID, buf, start, end)
    key: int = oid
    bound = RANGE_BOUND.get(key)
    if bound is not None:
        return decode_range(bound, buf, start, end)
    inner = MULTIRANGE_RANGE.get(key)
    if inner is not None:
        return decode_multirange(RANGE_BOUND[inner], buf, start, end)
    return None


def _array(element: i64, buf: bytes, start: i64, end: i64) -> bytes | None:
    """Dimensions, flag for NULLs, element type; per dimension size and lower bound; then the elements."""
    if end - start < 12:
        return None
    dimensions: i64 = i64(read_i32_be(buf, start))
    flags: i64 = i64(read_i32_be(buf, start + 4))
    if dimensions < 0 or dimensions > _MAX_DIMENSIONS or flags < 0 or flags > 1:
        return None
    pos: i64 = start + 12 + 8 * dimensions
    if pos > end or not _is_element(i64(read_i32_be(buf, start + 8)) & 0xFFFFFFFF, element):
        return None
    count: i64 = 1
    shifted = False
    i: i64 = start + 12
    while i < pos:
        size: i64 = i64(read_i32_be(buf, i))
        lower: i64 = i64(read_i32_be(buf, i + 4))
        # The product of two numbers of 31 bits fits in an i64; each element takes at least four bytes.
        count *= size
        if size < 0 or lower + size > _MAX_INT4 or count > _MAX_INT4:
            return None
        shifted = shifted or lower != 1
        i += 8
    if dimensions == 0 or count == 0:
        return b"{}" if pos == end else None
    if count > (end - pos) // 4 or 2 * count >= MAX_TEXT:
        return None
    w = BytesWriter()
    if shifted:
        _write_bounds(w, buf, start + 12, start + 12 + 8 * dimensions)
    delimiter: i64 = _SEMICOLON if element == t.BOX else _COMMA
    done: i64 = 0
    while done < count:
        _write_opening(w, buf, start + 12, dimensions, done, delimiter)
        if pos + 4 > end:
            return None
        length: i64 = i64(read_i32_be(buf, pos))
        pos += 4
        if length == _NULL:
            w.write(b"NULL")
        else:
            if length < 0 or length > end - pos:
                return None
            text = decode_scalar(element, buf, pos, pos + length)
            if text is None:
                text = _decode_inner(element, buf, pos, pos + length)
                if text is None:
                    return None
            if len(w) + len(text) > MAX_TEXT:
                return None
            _write_element(w, text, delimiter)
            pos += length
        done += 1
        _write_closing(w, buf, start + 12, dimensions, done)
    return w.getvalue() if pos == end and len(w) <= MAX_TEXT else None


def _is_element(claimed: i64, element: i64) -> bool:
    """As the server, which complains of another type only if that is a built-in one, and goes on without."""
    return claimed == element or claimed >= _FIRST_NOT_BUILT_IN


def _write_bounds(w: BytesWriter, buf: bytes, at: i64, end: i64) -> None:
    while at < end:
        size: i64 = i64(read_i32_be(buf, at))
        lower: i64 = i64(read_i32_be(buf, at + 4))
        w.append(0x5B)
        w.write(format_int(lower))
        w.append(0x3A)
        w.write(format_int(lower + size - 1))
        w.append(0x5D)
        at += 8
    w.append(0x3D)


def _write_opening(w: BytesWriter, buf: bytes, at: i64, dimensions: i64, done: i64, delimiter: i64) -> None:
    """Append the delimiter and the braces in front of element number `done`."""
    if done > 0:
        w.append(u8(delimiter))
    span: i64 = 1
    i: i64 = dimensions - 1
    while i >= 0:
        span *= i64(read_i32_be(buf, at + 8 * i))
        if done % span != 0:
            return
        w.append(_OPEN)
        i -= 1


def _write_closing(w: BytesWriter, buf: bytes, at: i64, dimensions: i64, done: i64) -> None:
    """Append the braces behind the element that was the `done`-th."""
    span: i64 = 1
    i: i64 = dimensions - 1
    while i >= 0:
        span *= i64(read_i32_be(buf, at + 8 * i))
        if done % span != 0:
            return
        w.append(_CLOSE)
        i -= 1


def _is_space(c: i64) -> bool:
    return c == _SPACE or 0x09 <= c <= 0x0D


def _write_element(w: BytesWriter, text: bytes, delimiter: i64) -> None:
    """Append an element, in double quotes if it is empty, NULL or has a character that means something."""
    quoted = len(text) == 0 or (len(text) == 4 and text.upper() == b"NULL")
    escaped = False
    n: i64 = len(text)
    i: i64 = 0
    while i < n:
        c: i64 = text[i]
        if c == _QUOTE or c == _BACKSLASH:
            escaped = True
            break
        if c == delimiter or c == _OPEN or c == _CLOSE or _is_space(c):
            quoted = True
        i += 1
    if not quoted and not escaped:
        w.write(text)
        return
    w.append(_QUOTE)
    if escaped:
        w.write(text.replace(b"\\", b"\\\\").replace(b'"', b'\\"'))
    else:
        w.write(text)
    w.append(_QUOTE)


def _vector(element: i64, buf: bytes, start: i64, end: i64) -> bytes | None:
    """int2vector and oidvector: an array of one dimension from 0 on without NULLs, printed with spaces."""
    if end - start < 20:
        return None
    dimensions: i64 = i64(read_i32_be(buf, start))
    flags: i64 = i64(read_i32_be(buf, start + 4))
    lower: i64 = i64(read_i32_be(buf, start + 16))
    if dimensions != 1 or flags < 0 or flags > 1 or lower != 0:
        return None
    if not _is_element(i64(read_i32_be(buf, start + 8)) & 0xFFFFFFFF, element):
        return None
    count: i64 = i64(read_i32_be(buf, start + 12))
    size: i64 = 2 if element == t.INT2 else 4
    # The server cannot read back its own empty vector.
    if count <= 0 or end - start - 20 != count * (4 + size) or 2 * count > MAX_TEXT:
        return None
    w = BytesWriter()
    pos: i64 = start + 20
    while pos < end:
        if i64(read_i32_be(buf, pos)) != size:
            return None
        text = decode_scalar(element, buf, pos + 4, pos + 4 + size)
        if text is None or len(w) + len(text) >= MAX_TEXT:
            return None
        if pos > start + 20:
            w.append(_SPACE)
        w.write(text)
        pos += 4 + size
    return w.getvalue()
