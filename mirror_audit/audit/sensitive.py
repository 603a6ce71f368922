"""What counts as sensitive inside one value: card numbers, and passwords in connection strings.

Card numbers are told by their length, first digit and check digit (ISO/IEC 7812-1: 13 to 19 digits, Luhn;
payment cards begin with 2 to 6), so one other number in ten of that shape is taken for one. Times in
milliseconds or nanoseconds begin with 1 and are not.

Connection strings are libpq's (PostgreSQL manual, 34.1.1); URIs may be of any scheme (RFC 3986, 3.2.1).

All work is linear in the text, whatever it is: patterns begin at a literal, repeat up to a bound, or are
possessive.
"""

import re
from collections.abc import Iterator
from typing import Final

from mirror_audit.audit.lexer import BITS, DOLLAR, ESTRING, HEX, INTEGER, NSTRING, NUMBER, STRING, USTRING

__all__ = [
    "MASK",
    "cards",
    "literal",
    "literal_value",
    "mask_cards",
    "mask_conninfo",
    "needs_more",
    "unicode_value",
]

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
_POSTGRES: Final = re.compile(rb"postgres(?:ql)?://", re.IGNORECASE)
_RUN: Final = re.compile(rb"\S++")
_QUOTED_RUN: Final = re.compile(rb"[^\s\"'<>`]++")  # a URI in JSON, in an array, in markup
_USER: Final = re.compile(rb"[^:@/?\s]*+:")
_USER_NO_PORT: Final = re.compile(rb"[^:@/?\s]*+:(?!\d{1,5}(?:[/?#,]|\Z))")
_URI_PASSWORD: Final = re.compile(
    rb"([?&]\w{0,32}?(?:passw|pwd|secret)\w{0,32}=)([^&\s\"'<>`]*+)", re.IGNORECASE
)
_POSTGRES_PASSWORD: Final = re.compile(rb"([?&]\w{0,32}?passw\w{0,32}=)([^&\s]*+)", re.IGNORECASE)
_PLACEHOLDER: Final = re.compile(rb"'?(?:%[\w$.-]*|\$\d+|\{\w*\})?'?", re.IGNORECASE)

_ESCAPE: Final = re.compile(
    rb"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))|''", re.DOTALL
)
_LETTERS: Final = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}
_BODY: Final = re.compile(rb"(?:[^']++|'')*+")
_ESCAPED_BODY: Final = re.compile(rb"(?:[^'\\]++|''|\\.)*+", re.DOTALL)
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
    if b"://" in value:
        masked = _QUOTED_RUN.sub(_mask_uri, _RUN.sub(_mask_postgres, value))
        if masked != value:
            return masked
    if _PASSWORD.search(value) and _CONNINFO.fullmatch(value):
        return _PASSWORD.sub(rb"\g<1>" + MASK, value)
    return value


def _mask_postgres(match: re.Match[bytes]) -> bytes:
    # A quote may be part of the password: whatever libpq takes for one goes.
    run = match.group()
    found = _POSTGRES.search(run) if b"://" in run else None
    if found is None:
        return run
    return _POSTGRES_PASSWORD.sub(rb"\g<1>" + MASK, _mask_user(run, found.end() - 3, _USER))


def _mask_uri(match: re.Match[bytes]) -> bytes:
    run = match.group()
    at = run.find(b"://")
    return run if at < 0 else _URI_PASSWORD.sub(rb"\g<1>" + MASK, _mask_user(run, at, _USER_NO_PORT))


def _mask_user(run: bytes, at: int, user: re.Pattern[bytes]) -> bytes:
    """Mask from the first colon behind "://" and a user's name to the last "@"."""
    last = run.rfind(b"@")
    while 0 <= at < last:
        # Ends at the next "://" at the latest, so nothing is looked at twice.
        found = user.match(run, at + 3)
        if found is not None and found.end() <= last:
            return run[: found.end()] + MASK + run[last:]
        at = run.find(b"://", at + 3)
    return run


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
    if kind == ESTRING or (kind in (STRING, NSTRING) and not standard_conforming):
        return _ESCAPE.sub(_unescape, _body(token, _ESCAPED_BODY))
    body = _body(token, _BODY)
    return body.replace(b"''", b"'") if kind in (STRING, NSTRING, USTRING, BITS, HEX) else body


def _body(token: bytes, pattern: re.Pattern[bytes]) -> bytes:
    """What stands between the quotes of a literal, its pieces put together."""
    pieces: list[bytes] = []
    at = token.index(b"'") + 1
    while True:
        # A quote that ends a piece is followed by the next piece, or by nothing: so this is linear.
        piece = pattern.match(token, at)
        end = at if piece is None else piece.end()
        pieces.append(token[at:end])
        continued = _CONTINUED.match(token, end)
        if continued is None:
            if end < len(token) and token[end] != 0x27:
                pieces.append(token[end:])  # a backslash at the end
            return b"".join(pieces)
        at = continued.end()


def unicode_value(value: bytes, escape: bytes) -> bytes:
    """What U&'...' says, from its `literal_value` and its escape character (one byte)."""

    def character(match: re.Match[bytes]) -> bytes:
        code = match.group(1) or match.group(2)
        if code is None:
            return escape if match.group(3) == escape else match.group()
        return chr(int(code, 16)).encode("utf-8", "replace") if int(code, 16) <= 0x10FFFF else match.group()

    pattern = rb"(?:([0-9A-Fa-f]{4})|\+([0-9A-Fa-f]{6})|(.))"
    return re.sub(re.escape(escape) + pattern, character, value, flags=re.DOTALL)


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
