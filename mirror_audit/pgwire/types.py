"""Values in PostgreSQL's binary format -> the text PostgreSQL prints for them. Compiled.

What a client sends in Bind with format code 1 is the input of the type's receive function (`int4recv`, ...);
an audit record wants what the server understood. So values are normalised as the server does it: `[1,5]` of
an int4range is `[1,6)`, a box has its upper right corner first. The output is that of PostgreSQL 15 to 18
with DateStyle ISO, IntervalStyle postgres, bytea_output hex, extra_float_digits 1 and TimeZone UTC.

Limits: json, jsonb, xml and all texts are as the client wrote them and in the client's encoding (the server
prints jsonb anew, drops an XML declaration). Enums, domains, composites and extensions have ids of their own
in each database and are unknown here. For the types left out see `type_scalars`.
"""

from librt.strings import read_i16_be, read_i32_be, read_i64_be
from mypy_extensions import i64

from mirror_audit.pgwire import type_oids as t
from mirror_audit.pgwire.type_containers import decode_container
from mirror_audit.pgwire.type_numbers import format_int
from mirror_audit.pgwire.type_oids import type_name
from mirror_audit.pgwire.type_scalars import MAX_TEXT, decode_scalar

__all__ = ["MAX_TEXT", "decode_binary", "type_name"]


def decode_binary(oid: i64, buf: bytes, start: i64, end: i64) -> bytes | None:
    """The text that PostgreSQL prints for buf[start:end], a value of the type `oid` in binary format.

    None if the type is not known, if the server would refuse the bytes, if start and end do not lie in `buf`,
    or if the text made would exceed MAX_TEXT bytes (bytes that are text already are returned at any length).
    Never raises. The text is UTF-8 if the client's encoding is UTF-8; that is not checked.

    The work is bounded by MAX_TEXT and the value's length, but not by the length alone: a numeric of ten
    bytes can stand for 131072 digits. Whoever decodes many values of one message should limit their sum.
    """
    if start < 0 or end > len(buf) or start > end:
        return None
    if oid == t.INT4:
        return format_int(i64(read_i32_be(buf, start))) if end - start == 4 else None
    if oid == t.TEXT or oid == t.VARCHAR:
        return buf[start:end]
    if oid == t.INT8:
        return format_int(read_i64_be(buf, start)) if end - start == 8 else None
    if oid == t.BOOL:
        if end - start != 1:
            return None
        return b"f" if buf[start] == 0 else b"t"
    if oid == t.INT2:
        return format_int(i64(read_i16_be(buf, start))) if end - start == 2 else None
    text = decode_scalar(oid, buf, start, end)
    if text is None:
        text = decode_container(oid, buf, start, end)
    return text
