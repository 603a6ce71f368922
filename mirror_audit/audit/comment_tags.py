"""The tags that libraries write into a comment of a statement, as sqlcommenter defines them. Compiled.

/*action='index',traceparent='00-5bd66ef5095369c7b0d1f8f4bd33716a-c532cb4098ac3dd2-01'*/ after or before the
statement: keys and values in percent encoding, a quote in them as \\'
(https://google.github.io/sqlcommenter/spec/). A comment that is not wholly of this form has no tags.
"""

from typing import Final

from librt.strings import BytesWriter
from mypy_extensions import i64, u8

from mirror_audit.audit.lexer import COMMENT, MARK
from mirror_audit.audit.scanner import tokens

__all__ = ["MAX_TAGS", "MAX_TAG_BYTES", "comment_tags", "parse_tags"]

MAX_TAGS: Final = 32
MAX_TAG_BYTES: Final = 4096  # of a comment that is looked at


def comment_tags(text: bytes) -> dict[str, str]:
    """The tags of the comment after the last token, or else of the one before the first; {} without any."""
    flat = tokens(text, True)
    n: i64 = len(flat)
    while n > 0 and flat[n - 3] == MARK and text[flat[n - 2]] == 0x3B:
        n -= 3
    if n > 0 and flat[n - 3] == COMMENT:
        tags = parse_tags(text, flat[n - 2], flat[n - 1])
        if tags:
            return _decoded(tags)
    if n > 0 and flat[0] == COMMENT:
        return _decoded(parse_tags(text, flat[1], flat[2]))
    return {}


def _decoded(tags: dict[bytes, bytes]) -> dict[str, str]:
    decoded: dict[str, str] = {}
    for key, value in tags.items():
        decoded[key.decode("utf-8", "replace")] = value.decode("utf-8", "replace")
    return decoded


def parse_tags(text: bytes, start: i64, end: i64) -> dict[bytes, bytes]:
    """The tags of the comment text[start:end], decoded and in its order; {} if it has another form."""
    tags: dict[bytes, bytes] = {}
    if end - start < 8 or end - start > MAX_TAG_BYTES or text[start] != 0x2F or text[end - 1] != 0x2F:
        return tags
    end -= 2
    i: i64 = _skip_blanks(text, start + 2, end)
    while True:
        key_start: i64 = i
        while i < end and _in_key(text[i]):
            i += 1
        key_end: i64 = i
        if key_end == key_start or i + 1 >= end or text[i] != 0x3D or text[i + 1] != 0x27:
            return {}
        i += 2
        value_start: i64 = i
        while i < end and text[i] != 0x27:
            i += 2 if text[i] == 0x5C else 1
        if i >= end or len(tags) >= MAX_TAGS:
            return {}
        tags[_unescaped(text, key_start, key_end)] = _unescaped(text, value_start, i)
        i = _skip_blanks(text, i + 1, end)
        if i == end:
            return tags
        if text[i] != 0x2C:
            return {}
        i = _skip_blanks(text, i + 1, end)


def _in_key(c: i64) -> bool:
    return c > 0x20 and c != 0x3D and c != 0x2C and c != 0x27


def _skip_blanks(text: bytes, i: i64, end: i64) -> i64:
    while i < end:
        c: i64 = text[i]
        if c != 0x20 and c != 0x0A and c != 0x0D and c != 0x09:
            break
        i += 1
    return i


def _hex_digit(c: i64) -> i64:
    if c >= 0x30 and c <= 0x39:
        return c - 0x30
    c |= 0x20
    return c - 0x57 if c >= 0x61 and c <= 0x66 else -1


def _unescaped(text: bytes, start: i64, end: i64) -> bytes:
    plain = True
    i: i64 = start
    while i < end:
        c: i64 = text[i]
        if c == 0x25 or c == 0x5C:
            plain = False
            break
        i += 1
    if plain:
        return text[start:end]
    w = BytesWriter()
    i = start
    while i < end:
        c = text[i]
        if c == 0x25 and i + 2 < end:
            high: i64 = _hex_digit(text[i + 1])
            low: i64 = _hex_digit(text[i + 2])
            if high >= 0 and low >= 0:
                w.append(u8(high * 16 + low))
                i += 3
                continue
        elif c == 0x5C and i + 1 < end:
            i += 1
        b: u8 = text[i]
        w.append(b)
        i += 1
    return w.getvalue()
