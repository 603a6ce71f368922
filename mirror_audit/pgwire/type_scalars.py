"""Binary values of types without parts of their own -> the text PostgreSQL prints for them. Compiled.

Left out because the text depends on the server or is no plain function of the bytes: money (lc_monetary),
tsvector, tsquery, txid_snapshot and what no client can send (aclitem, record, pg_node_tree, statistics).
The reg* types are printed as numbers: the names are in the server's catalog.
"""

from typing import Final

from librt.strings import BytesWriter, read_f64_be, read_i16_be, read_i32_be, read_i64_be
from mypy_extensions import i64, u8

from mirror_audit.pgwire import type_oids as t
from mirror_audit.pgwire.type_datetime import (
    decode_date,
    decode_interval,
    decode_time,
    decode_timestamp,
    decode_timetz,
)
from mirror_audit.pgwire.type_numbers import (
    decode_float4,
    decode_float8,
    decode_numeric,
    format_float8,
    format_int,
    format_uint8,
)

__all__ = ["MAX_TEXT", "decode_scalar", "is_verbatim"]

MAX_TEXT: Final = 1 << 20
"""Longest text made from a value (bytes). Texts that are the value's own bytes have no limit."""

_MAX_NAME: Final = 63
_COMMA: Final = 0x2C
_COLON: Final = 0x3A
_DASH: Final = 0x2D
_LEFT: Final = 0x28
_RIGHT: Final = 0x29
_ZERO: Final = 0x30
_FAMILY_IPV4: Final = 2
_FAMILY_IPV6: Final = 3
_EPSILON: Final = 1.0e-6
_HEX: Final = b"0123456789abcdef"


def is_verbatim(oid: i64) -> bool:
    """True if the binary form of the type is its text (the client's encoding, not checked here)."""
    return (
        oid == t.TEXT
        or oid == t.VARCHAR
        or oid == t.BPCHAR
        or oid == t.JSON
        or oid == t.UNKNOWN
        or oid == t.XML
        or oid == t.REFCURSOR
        or oid == t.CSTRING
    )


def decode_scalar(oid: i64, buf: bytes, start: i64, end: i64) -> bytes | None:
    """The text of buf[start:end], a value of the scalar type `oid`; None if it is none or not known here.

    The caller has checked 0 <= start <= end <= len(buf).
    """
    size: i64 = end - start
    if is_verbatim(oid):
        return buf[start:end]
    if oid == t.INT4:
        return format_int(i64(read_i32_be(buf, start))) if size == 4 else None
    if oid == t.INT8:
        return format_int(read_i64_be(buf, start)) if size == 8 else None
    if oid == t.INT2:
        return format_int(i64(read_i16_be(buf, start))) if size == 2 else None
    if oid == t.BOOL:
        if size != 1:
            return None
        return b"f" if buf[start] == 0 else b"t"
    if oid == t.TIMESTAMPTZ:
        return decode_timestamp(buf, start, end, True)
    if oid == t.TIMESTAMP:
        return decode_timestamp(buf, start, end, False)
    if oid == t.UUID:
        return _uuid(buf, start, end)
    if oid == t.JSONB or oid == t.JSONPATH:
        # Version 1 is the only one there has been.
        return buf[start + 1 : end] if size > 0 and buf[start] == 1 else None
    if oid == t.NUMERIC:
        return decode_numeric(buf, start, end)
    if oid == t.FLOAT8:
        return decode_float8(buf, start, end)
    if oid == t.BYTEA:
        return b"\\x" + buf[start:end].hex().encode() if size * 2 + 2 <= MAX_TEXT else None
    if oid == t.DATE:
        return decode_date(buf, start, end)
    if oid == t.FLOAT4:
        return decode_float4(buf, start, end)
    if oid == t.INTERVAL:
        return decode_interval(buf, start, end)
    if oid == t.TIME:
        return decode_time(buf, start, end)
    if oid == t.TIMETZ:
        return decode_timetz(buf, start, end)
    if oid == t.INET or oid == t.CIDR:
        return _network(buf, start, end, oid == t.CIDR)
    if oid == t.NAME:
        return buf[start:end] if size <= _MAX_NAME else None
    if _is_uint4(oid):
        return format_int(i64(read_i32_be(buf, start)) & 0xFFFFFFFF) if size == 4 else None
    if oid == t.XID8:
        return format_uint8(read_i64_be(buf, start)) if size == 8 else None
    return _decode_rare(oid, buf, start, end)


def _is_uint4(oid: i64) -> bool:
    """oid, xid, cid and all reg* types."""
    return (
        oid == t.OID
        or 28 <= oid <= 29
        or oid == 24
        or 2202 <= oid <= 2206
        or oid == 3734
        or oid == 3769
        or oid == 4089
        or oid == 4096
        or oid == 4191
    )


def _decode_rare(oid: i64, buf: bytes, start: i64, end: i64) -> bytes | None:
    size: i64 = end - start
    if oid == t.CHAR:
        return _char(buf[start]) if size == 1 else None
    if oid == t.VARBIT or oid == t.BIT:
        return _bits(buf, start, end)
    if oid == t.MACADDR:
        return _macaddr(buf, start, end) if size == 6 else None
    if oid == t.MACADDR8:
        if size == 6:
            # The server widens an EUI-48 as RFC 4291, appendix A, does.
            wide = buf[start : start + 3] + b"\xff\xfe" + buf[start + 3 : end]
            return _macaddr(wide, 0, 8)
        return _macaddr(buf, start, end) if size == 8 else None
    if oid == t.PG_LSN:
        if size != 8:
            return None
        high: i64 = i64(read_i32_be(buf, start)) & 0xFFFFFFFF
        low: i64 = i64(read_i32_be(buf, start + 4)) & 0xFFFFFFFF
        return f"{high:X}/{low:X}".encode()
    if oid == t.TID:
        if size != 6:
            return None
        block: i64 = i64(read_i32_be(buf, start)) & 0xFFFFFFFF
        item: i64 = i64(read_i16_be(buf, start + 4)) & 0xFFFF
        return b"(" + format_int(block) + b"," + format_int(item) + b")"
    if oid == t.VOID:
        return b"" if size == 0 else None
    if t.POINT <= oid <= t.CIRCLE:
        return _geometric(oid, buf, start, end)
    return None


def _char(value: i64) -> bytes:
    """ "char": one byte; 0 is printed as nothing, what is not ASCII in octal."""
    if value == 0:
        return b""
    if value < 0x80:
        return bytes([value])
    w = BytesWriter()
    w.append(0x5C)
    w.append(u8(_ZERO + (value >> 6)))
    w.append(u8(_ZERO + ((value >> 3) & 7)))
    w.append(u8(_ZERO + (value & 7)))
    return w.getvalue()


def _uuid(buf: bytes, start: i64, end: i64) -> bytes | None:
    if end - start != 16:
        return None
    w = BytesWriter()
    i: i64 = start
    while i < end:
        if i == start + 4 or i == start + 6 or i == start + 8 or i == start + 10:
            w.append(_DASH)
        c: i64 = buf[i]
        w.append(u8(_HEX[c >> 4]))
        w.append(u8(_HEX[c & 15]))
        i += 1
    return w.getvalue()


def _macaddr(buf: bytes, start: i64, end: i64) -> bytes:
    w = BytesWriter()
    i: i64 = start
    while i < end:
        if i > start:
            w.append(_COLON)
        c: i64 = buf[i]
        w.append(u8(_HEX[c >> 4]))
        w.append(u8(_HEX[c & 15]))
        i += 1
    return w.getvalue()


def _bits(buf: bytes, start: i64, end: i64) -> bytes | None:
    """bit and varbit: the number of bits, then the bits, padded to a whole byte."""
    if end - start < 4:
        return None
    count: i64 = i64(read_i32_be(buf, start))
    if count < 0 or count > MAX_TEXT or end - start - 4 != (count + 7) // 8:
        return None
    w = BytesWriter()
    i: i64 = 0
    while i < count:
        w.append(u8(_ZERO + ((buf[start + 4 + (i >> 3)] >> (7 - (i & 7))) & 1)))
        i += 1
    return w.getvalue()


def _network(buf: bytes, start: i64, end: i64, cidr: bool) -> bytes | None:
    """inet and cidr: family, bits of the mask, a flag that the server ignores, length, address."""
    if end - start < 4:
        return None
    family: i64 = buf[start]
    bits: i64 = buf[start + 1]
    length: i64 = buf[start + 3]
    if family == _FAMILY_IPV4:
        if length != 4 or end - start != 8 or bits > 32:
            return None
    elif family == _FAMILY_IPV6:
        if length != 16 or end - start != 20 or bits > 128:
            return None
    else:
        return None
    if cidr:
        # Bits right of the mask make it no network.
        i: i64 = bits
        while i < length * 8:
            if (buf[start + 4 + (i >> 3)] >> (7 - (i & 7))) & 1:
                return None
            i += 1
    text = _ipv4(buf, start + 4) if length == 4 else _ipv6(buf, start + 4)
    if cidr or bits != length * 8:
        text += b"/" + format_int(bits)
    return text


def _ipv4(buf: bytes, start: i64) -> bytes:
    w = BytesWriter()
    w.write(format_int(buf[start]))
    i: i64 = 1
    while i < 4:
        w.append(0x2E)
        w.write(format_int(buf[start + i]))
        i += 1
    return w.getvalue()


def _ipv6(buf: bytes, start: i64) -> bytes:
    """The form of `pg_inet_net_ntop`: the first longest run of two or more zero words becomes "::"."""
    best: i64 = -1
    best_length: i64 = 1
    i: i64 = 0
    while i < 8:
        run: i64 = 0
        while i + run < 8 and i64(read_i16_be(buf, start + 2 * (i + run))) == 0:
            run += 1
        if run > best_length:
            best = i
            best_length = run
        i += run + 1
    mapped = best == 0 and best_length == 5 and i64(read_i16_be(buf, start + 10)) & 0xFFFF == 0xFFFF
    w = BytesWriter()
    i = 0
    while i < 8:
        if i == best:
            w.write(b"::")
            i += best_length
            continue
        if i > 0 and (best < 0 or i != best + best_length):
            w.append(_COLON)
        if i == 6 and best == 0 and (best_length == 6 or mapped):
            w.write(_ipv4(buf, start + 12))
            break
        word: i64 = i64(read_i16_be(buf, start + 2 * i)) & 0xFFFF
        shift: i64 = 12
        while shift > 0 and word >> shift == 0:
            shift -= 4
        while shift >= 0:
            w.append(u8(_HEX[(word >> shift) & 15]))
            shift -= 4
        i += 1
    return w.getvalue()


def _geometric(oid: i64, buf: bytes, start: i64, end: i64) -> bytes | None:
    size: i64 = end - start
    if oid == t.POINT:
        return _point(buf, start, start + 8) if size == 16 else None
    if oid == t.LSEG:
        if size != 32:
            return None
        return b"[" + _point(buf, start, start + 8) + b"," + _point(buf, start + 16, start + 24) + b"]"
    if oid == t.BOX:
        return _box(buf, start) if size == 32 else None
    if oid == t.LINE:
        if size != 24:
            return None
        # NaN is not near to zero, hence no `>` here.
        if abs(read_f64_be(buf, start)) <= _EPSILON and abs(read_f64_be(buf, start + 8)) <= _EPSILON:
            return None
        a = format_float8(buf, start)
        return b"{" + a + b"," + format_float8(buf, start + 8) + b"," + format_float8(buf, start + 16) + b"}"
    if oid == t.CIRCLE:
        if size != 24 or read_f64_be(buf, start + 16) < 0:
            return None
        return b"<" + _point(buf, start, start + 8) + b"," + format_float8(buf, start + 16) + b">"
    if oid == t.PATH:
        if size < 1:
            return None
        return _points(buf, start + 1, end, buf[start] != 0)
    if oid == t.POLYGON:
        return _points(buf, start, end, True)
    return None


def _point(buf: bytes, x: i64, y: i64) -> bytes:
    return b"(" + format_float8(buf, x) + b"," + format_float8(buf, y) + b")"


def _box(buf: bytes, start: i64) -> bytes:
    """Two corners; the upper right one is printed first, whatever two of them came."""
    x_high: i64 = start
    x_low: i64 = start + 16
    if _is_less(read_f64_be(buf, x_high), read_f64_be(buf, x_low)):
        x_high = start + 16
        x_low = start
    y_high: i64 = start + 8
    y_low: i64 = start + 24
    if _is_less(read_f64_be(buf, y_high), read_f64_be(buf, y_low)):
        y_high = start + 24
        y_low = start + 8
    return _point(buf, x_high, y_high) + b"," + _point(buf, x_low, y_low)


def _is_less(a: float, b: float) -> bool:
    """PostgreSQL's order of floats: NaN is above all others."""
    if a != a:
        return False
    return b != b or a < b


def _points(buf: bytes, start: i64, end: i64, closed: bool) -> bytes | None:
    if end - start < 4:
        return None
    count: i64 = i64(read_i32_be(buf, start))
    if count <= 0 or end - start - 4 != count * 16:
        return None
    w = BytesWriter()
    w.append(u8(_LEFT if closed else 0x5B))
    i: i64 = start + 4
    while i < end:
        if i > start + 4:
            w.append(_COMMA)
        w.write(_point(buf, i, i + 8))
        if len(w) >= MAX_TEXT:
            return None
        i += 16
    w.append(u8(_RIGHT if closed else 0x5D))
    return w.getvalue()
