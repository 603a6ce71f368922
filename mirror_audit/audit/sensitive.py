"""What counts as sensitive inside one value: card numbers, and passwords in connection strings.

Card numbers are told by their length, first digit and check digit (ISO/IEC 7812-1: 13 to 19 digits, Luhn;
payment cards begin with 2 to 6), so one other number in ten of that shape is taken for one. Times in
milliseconds or nanoseconds begin with 1 and are not.

Connection strings are libpq's (PostgreSQL manual, 34.1.1).
"""

import re
from collections.abc import Iterator
from typing import Final

from mirror_audit.audit.lexer import BITS, DOLLAR, ESTRING, HEX, INTEGER, NSTRING, NUMBER, STRING, USTRING

__all__ = ["MASK", "cards", "literal", "literal_value", "mask_cards", "mask_conninfo", "needs_more"]

MASK: Final = b"***"

_MIN_DIGITS: Final = 13
_MAX_DIGITS: Final = 19
_DIGITS: Final = re.compile(rb"\d(?:[ _-]?\d){12,}")
_GROUP: Final = re.compile(rb"\d+")
_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)

_PAIR: Final = rb"\w++\s*+=\s*+(?:'(?:[^'\\]|\\.)*+'?+|(?:[^\s'\\]|\\.)*+)\s*+"
_CONNINFO: Final = re.compile(rb"\s*+(?:" + _PAIR + rb")++", re.DOTALL)
_PASSWORD: Final = re.compile(
    rb"((?:passw|pwd|secret)\w{0,40}\s{0,8}=\s{0,8})('(?:[^'\\]|\\.)*+'?|(?:[^\s'\\]|\\.)*+)",
    re.IGNORECASE | re.DOTALL,
)
_URI: Final = re.compile(rb"postgres(?:ql)?://\S*", re.IGNORECASE)
_URI_USER: Final = re.compile(rb"(://[^:@/?\s]*:)(\S*)@")
_URI_PASSWORD: Final = re.compile(rb"([?&]\w*passw\w*=)([^&\s]*)", re.IGNORECASE)
_PLACEHOLDER: Final = re.compile(rb"'?(?:%[\w$.-]*|\$\d+|\{\w*\})?'?", re.IGNORECASE)

_ESCAPE: Final = re.compile(
    rb"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))|''", re.DOTALL
)
_LETTERS: Final = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}
_CONTINUED: Final = re.compile(rb"'(?:[ \t\f\v]++|--[^\r\n]*+)*+[\r\n](?:\s++|--[^\r\n]*+[\r\n])*+'")


def cards(text: bytes) -> Iterator[tuple[int, int]]:
    """(start, end) of each card number: whole groups of digits with one blank, dash or underscore between."""
    for run in _DIGITS.finditer(text):
        groups = [(group.start(), group.end()) for group in _GROUP.finditer(text, run.start(), run.end())]
        digits = [byte - 0x30 for byte in run.group() if 0x30 <= byte <= 0x39]
        # sums[p][k]: of the first k digits, those doubled whose place has parity p.
        sums = ([0], [0])
        for place, digit in enumerate(digits):
            for parity in (0, 1):
                sums[parity].append(sums[parity][-1] + (_DOUBLED[digit] if place % 2 == parity else digit))
        starts = [0]
        for start, end in groups:
            starts.append(starts[-1] + end - start)
        first = 0
        while first < len(groups):
            last = first
            found = -1
            while last < len(groups) and starts[last + 1] - starts[first] <= _MAX_DIGITS:
                begin, stop = starts[first], starts[last + 1]
                total = sums[stop % 2][stop] - sums[stop % 2][begin]
                if stop - begin >= _MIN_DIGITS and total % 10 == 0 and 2 <= digits[begin] <= 6:
                    found = last
                last += 1
            if found >= 0:
                yield groups[first][0], groups[found][1]
                first = found
            first += 1


def mask_cards(text: bytes) -> bytes:
    """`text` with each card number masked; the same object if there is none."""
    parts: list[bytes] = []
    done = 0
    for start, end in cards(text):
        parts += (text[done:start], MASK)
        done = end
    return b"".join((*parts, text[done:])) if parts else text


def mask_conninfo(value: bytes) -> bytes:
    """`value` with its passwords masked if it is a connection string or has a URI; else the same object."""
    if _URI.search(value):
        masked = _URI.sub(_mask_uri, value)
        if masked != value:
            return masked
    if _PASSWORD.search(value) and _CONNINFO.fullmatch(value):
        return _PASSWORD.sub(rb"\g<1>" + MASK, value)
    return value


def _mask_uri(match: re.Match[bytes]) -> bytes:
    uri = match.group()
    if b"@" in uri:
        uri = _URI_USER.sub(rb"\g<1>" + MASK + b"@", uri, count=1)
    return _URI_PASSWORD.sub(rb"\g<1>" + MASK, uri)


def needs_more(value: bytes) -> bool:
    """True if `value` is a connection string that gets its password from elsewhere: 'password=' || x."""
    return any(_PLACEHOLDER.fullmatch(match.group(2)) for match in _PASSWORD.finditer(value))


def literal_value(token: bytes, kind: int, standard_conforming: bool) -> bytes:
    """What a literal says. Escapes that PostgreSQL would refuse stay as they are; so does all in U&'...'."""
    if kind in (INTEGER, NUMBER):
        return token
    if kind == DOLLAR:
        size = token.index(b"$", 1) + 1
        return token[size:-size] if len(token) >= 2 * size and token.endswith(token[:size]) else token[size:]
    body = _CONTINUED.sub(b"", token[token.index(b"'") + 1 :]).removesuffix(b"'")
    if kind == ESTRING or (kind in (STRING, NSTRING) and not standard_conforming):
        return _ESCAPE.sub(_unescape, body)
    return body.replace(b"''", b"'") if kind in (STRING, NSTRING, USTRING, BITS, HEX) else body


def _unescape(match: re.Match[bytes]) -> bytes:
    octal, hexadecimal, short, long, other = match.groups()
    if octal is not None:
        return bytes((int(octal, 8) & 0xFF,))
    if hexadecimal is not None:
        return bytes((int(hexadecimal, 16),))
    if short is not None or long is not None:
        code = int(short or long, 16)
        return chr(code).encode("utf-8", "replace") if code <= 0x10FFFF else match.group()
    return b"'" if other is None else _LETTERS.get(other, other)


def literal(value: bytes, token: bytes, kind: int, standard_conforming: bool) -> bytes:
    """A literal that says `value`, in the form of `token` where that needs no escapes."""
    if kind in (INTEGER, NUMBER):
        return value
    if kind == DOLLAR:
        tag = token[: token.index(b"$", 1) + 1]
        if tag not in value:
            return tag + value + tag
    quoted = value.replace(b"'", b"''")
    if b"\\" in value and (kind == ESTRING or not standard_conforming):
        return b"E'" + quoted.replace(b"\\", b"\\\\") + b"'"
    return b"'" + quoted + b"'"
