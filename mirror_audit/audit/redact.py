"""Takes secrets out of statements, messages and parameter values, before anything else is made of them.

Three modes. "secrets" masks passwords and keys where the syntax tells of them (see `audit.secret_places`)
and card numbers anywhere; of a text that is no SQL, every literal and comment. "values" masks every
literal, and comments that are not tags as well; with a key, a mask holds a keyed hash, so that equal values
can be told. "none" masks nothing. Names are not values: tables, columns, and the roles and paths that a
session takes on stay.
"""

import hmac
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from mirror_audit.audit.comment_tags import parse_tags
from mirror_audit.audit.lexer import (
    COMMENT,
    IDENTIFIER,
    INTEGER,
    NUMBER,
    ORDINAL,
    PARAMETER,
    QUOTED,
    STRING,
    USTRING,
)
from mirror_audit.audit.scanner import tokens
from mirror_audit.audit.secret_places import (
    PARSED,
    SHOWN,
    Mask,
    Secrets,
    apply_masks,
    mask_comment,
    mask_identifier,
    mask_literal,
    mask_sql,
)
from mirror_audit.audit.sensitive import (
    MASK,
    cards,
    literal,
    literal_value,
    mask_cards,
    mask_conninfo,
    unicode_value,
)
from mirror_audit.audit.suspects import LONG, suspects

__all__ = ["NONE", "SECRETS", "VALUES", "Redaction", "Redactor"]

SECRETS: Final = "secrets"
VALUES: Final = "values"
NONE: Final = "none"

_HASH_DIGITS: Final = 16
# Those of the server's translations too. Between letters it is an apostrophe.
_QUOTE: Final = re.compile("|".join((*'"«»„“”‚‘’', "(?<![A-Za-z])'", "'(?![A-Za-z])")).encode())
_JSON: Final = re.compile(rb"(JSON data, line \d+: ).*", re.DOTALL)
# RAISE and the checks of password modules say it without quotes; some words of the server's translations.
_TOLD: Final = re.compile(
    rb"((?:passw|passphrase|passe\b|pwd|secret|contrase)\w{0,40}).+", re.DOTALL | re.IGNORECASE
)
_NO_PARAMETERS: Final[frozenset[int]] = frozenset()


@dataclass(frozen=True, slots=True)
class Redaction:
    """A statement without its secrets.

    `text` is for readers; `sql` has the same tokens as the statement, with only the secrets taken out, for
    the parser. `secret`: there is a secret in it, or the place of one, perhaps a parameter (`parameters`,
    from 1).
    """

    text: bytes
    sql: bytes
    secret: bool
    parameters: frozenset[int]


class Redactor:
    """Redaction in one mode. `key`: for masks that can be compared, in mode "values"."""

    def __init__(self, mode: str, key: bytes | None) -> None:
        self.mode = mode
        self.key = key if mode == VALUES else None

    def statement(self, text: bytes, standard_conforming: bool, parsed: bool) -> Redaction:
        """Redact one statement. `parsed`: it is known to be SQL; else no literal of it is trusted."""
        if self.mode == NONE:
            return Redaction(text, text, False, _NO_PARAMETERS)
        shown = sql = text
        secret = False
        parameters = _NO_PARAMETERS
        found = suspects(text)
        if found % LONG or not parsed:
            secrets = Secrets(text, standard_conforming, parsed)
            shown = apply_masks(text, secrets.masks, SHOWN)
            sql = apply_masks(text, secrets.masks, PARSED)
            secret = secrets.secret
            parameters = frozenset(secrets.parameters)
        if found >= LONG:
            shown = apply_masks(shown, _card_masks(shown, standard_conforming), SHOWN)
            sql = apply_masks(sql, _card_masks(sql, standard_conforming), PARSED)
        if self.mode == VALUES or not parsed:
            shown = self._without_literals(shown, standard_conforming, parsed)
        return Redaction(shown, sql, secret, parameters)

    def _without_literals(self, text: bytes, standard_conforming: bool, parsed: bool) -> bytes:
        flat = tokens(text, standard_conforming)
        masks: list[Mask] = []
        for kind, start, end in zip(flat[::3], flat[1::3], flat[2::3], strict=True):
            if STRING <= kind <= NUMBER:
                value = literal_value(text[start:end], kind, standard_conforming)
                # A secret has its mask already, and not even a hash of it is wanted.
                shown = MASK if self.key is None or value == MASK else self._hash(value)
                masks.append(mask_literal(text, kind, start, end, shown))
            elif kind == COMMENT and not (parsed and parse_tags(text, start, end)):
                masks.append(mask_comment(text, start, end))
            elif kind == QUOTED and not text.endswith(b'"', start + 1, end):
                masks.append(mask_identifier(kind, start, end))
        return apply_masks(text, masks, SHOWN)

    def _hash(self, value: bytes) -> bytes:
        digest = hmac.new(self.key or b"", value, "sha256").hexdigest()
        return b"*hmac:" + digest[:_HASH_DIGITS].encode() + b"*"

    def value(self, text: bytes, secret: bool) -> bytes | None:
        """A parameter's value redacted, None if it may be shown. `secret`: it has the place of one."""
        if self.mode == NONE:
            return None
        if self.mode == VALUES:
            return MASK if self.key is None else self._hash(text)
        if secret:
            return MASK
        if not suspects(text):
            return None
        # Not only connection strings: what dblink_exec($1) runs is a value too.
        shown = mask_cards(mask_sql(text))
        return None if shown == text else shown

    def message(self, text: bytes, strict: bool) -> bytes:
        """A MESSAGE, DETAIL, HINT or CONTEXT of the server, redacted; the same object if nothing had to go.

        `strict` (its statement has a secret or is no SQL, or mode "values"): nothing in quotes stays, from
        the first to the last, since a value may hold quotes itself; nor do the values of a row or a key, nor
        anything behind the word password or its like. What else a message says without quotes, as RAISE
        may, cannot be told from the message.
        """
        if self.mode == NONE:
            return text
        shown = mask_cards(mask_conninfo(text)) if suspects(text) else text
        if strict or self.mode == VALUES:
            shown = _TOLD.sub(rb"\g<1> " + MASK, _without_values(shown))
        return text if shown == text else shown


def _card_masks(text: bytes, standard_conforming: bool) -> list[Mask]:
    """Masks for card numbers in literals, numbers and comments, and for names that are nothing else."""
    found = list(cards(text))
    flat = tokens(text, standard_conforming)
    masks: list[Mask] = []
    at = 0
    for place, (kind, start, end) in enumerate(zip(flat[::3], flat[1::3], flat[2::3], strict=True)):
        while at < len(found) and found[at][1] <= start:
            at += 1
        touched = at < len(found) and found[at][0] < end
        if STRING <= kind < INTEGER:
            token = text[start:end]
            value = literal_value(token, kind, standard_conforming)
            # Its pieces, if it has several, make one number only when put together; and escapes may hide it.
            hidden = b"\n" in token or b"\r" in token or b"\\" in token
            shown = mask_cards(value) if touched or hidden else value
            if kind == USTRING and _has_card(unicode_value(value, _escape(text, flat, 3 * place + 3))):
                masks.append(mask_literal(text, kind, start, end))
            elif shown != value:
                masked = literal(shown, token, kind, standard_conforming)
                masks.append((start, end, masked, masked))
        elif touched and kind in (INTEGER, NUMBER):
            masks.append(mask_literal(text, kind, start, end))
        elif touched and kind == COMMENT:
            body = text[start + 2 : end]
            masks.append(mask_comment(text, start, end, mask_cards(body.removesuffix(b"*/"))))
        elif kind == COMMENT and b"%" in text[start:end]:
            body = unquote_to_bytes(text[start:end])
            if mask_cards(body) != body:
                masks.append(mask_comment(text, start, end))
        elif touched and kind == PARAMETER:
            masks.append((start, end, b"$" + MASK, b"$1"))
        elif touched and kind == QUOTED and mask_cards(text[start + 1 : end - 1]) == MASK:
            masks.append(mask_identifier(kind, start, end))
    return masks


def _has_card(value: bytes) -> bool:
    return next(cards(value), None) is not None


def _escape(text: bytes, flat: list[int], at: int) -> bytes:
    """The escape character of the U&'...' in front of `at`: a backslash, or what UESCAPE says."""
    while at + 5 < len(flat) and flat[at] == COMMENT:
        at += 3
    if (
        at + 5 < len(flat)
        and flat[at] == IDENTIFIER
        and text[flat[at + 1] : flat[at + 2]].lower() == b"uescape"
    ):
        at += 3
        while at + 5 < len(flat) and flat[at] == COMMENT:
            at += 3
        if flat[at] in (STRING, ORDINAL):
            return text[flat[at + 1] + 1 : flat[at + 1] + 2]
    return b"\\"


def _without_values(text: bytes) -> bytes:
    text = _JSON.sub(rb"\g<1>" + MASK, text)
    last = text.rfind(b")")
    key = text.find(b"=(", 0, max(last, 0))  # Key (id)=(5) already exists.
    row = text.find(b" (", 0, max(last, 0))  # Failing row contains (5, x).
    if key >= 0:
        text = text[:key] + b"=(" + MASK + text[last:]
    elif row >= 0 and text[last:] in (b")", b")."):
        text = text[:row] + b" (" + MASK + b")"
    quotes = [match.span() for match in _QUOTE.finditer(text)]
    if not quotes:
        return text
    closing = text[quotes[-1][0] :] if len(quotes) > 1 else b""
    return text[: quotes[0][1]] + MASK + closing
