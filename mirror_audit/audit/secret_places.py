"""Where the secrets of a statement stand: found by its tokens, without a parser.

Tokens rather than a parse tree, because a secret must be found in PREPARE, EXPLAIN, the body of a DO or a
string for dblink as well, and in what is no valid SQL. What is looked for:

- the literal after PASSWORD and its like (CREATE and ALTER ROLE, USER, GROUP; OPTIONS of a server)
- all options of a user mapping but the user's name
- the password in a connection string: CREATE SUBSCRIPTION, primary_conninfo, dblink, anywhere else
- the arguments of functions that take a key or a password (pgcrypto, dblink_connect)
- SET, ALTER SYSTEM SET, set_config of a setting with a name like `password` or `token`
- all of these inside string literals, dollar-quoted bodies and comments
"""

import re
from typing import Final

from mirror_audit.audit.lexer import (
    COMMENT,
    DOLLAR,
    IDENTIFIER,
    INTEGER,
    MARK,
    NUMBER,
    OPERATOR,
    PARAMETER,
    QUOTED,
    STRING,
    USTRING,
)
from mirror_audit.audit.scanner import tokens
from mirror_audit.audit.sensitive import MASK, literal, literal_value, mask_conninfo, needs_more
from mirror_audit.audit.suspects import LONG, suspects

__all__ = [
    "PARSED",
    "SHOWN",
    "Mask",
    "Secrets",
    "apply_masks",
    "mask_comment",
    "mask_identifier",
    "mask_literal",
    "mask_sql",
]

Mask = tuple[int, int, bytes, bytes]  # start, end, SHOWN, PARSED
SHOWN: Final = 2  # what a reader sees
PARSED: Final = 3  # what keeps the statement what it is to a parser

_MAX_DEPTH: Final = 4  # of literals inside literals; deeper ones are masked whole

_SECRET_NAME: Final = re.compile(
    rb"passw|passphrase|pwd|secret|token|credential|api_?key|(?:access|private|encryption)_key", re.IGNORECASE
)
_SECRET_FUNCTIONS: Final = frozenset(
    (
        b"crypt",
        b"decrypt",
        b"decrypt_iv",
        b"encrypt",
        b"encrypt_iv",
        b"hmac",
        b"pgp_pub_decrypt",
        b"pgp_pub_decrypt_bytea",
        b"pgp_pub_encrypt",
        b"pgp_pub_encrypt_bytea",
        b"pgp_sym_decrypt",
        b"pgp_sym_decrypt_bytea",
        b"pgp_sym_encrypt",
        b"pgp_sym_encrypt_bytea",
    )
)
_CONNECTING: Final = frozenset((b"dblink_connect", b"dblink_connect_u"))
_COMPOSING: Final = frozenset((b"concat", b"concat_ws", b"format"))
_DML: Final = frozenset((b"insert", b"merge", b"update"))
_NO_VALUE: Final = frozenset((b"null", b"default", b"from", b"current"))
_USER_NAMES: Final = frozenset((b"user", b"username", b"user_name"))
# Dynamic SQL or a connection string whose password comes from another literal.
_UNFINISHED: Final = re.compile(rb"passw\w{0,20}\s{0,8}=?\s{0,8}['\"]?\s{0,8}\Z", re.IGNORECASE)
_SET_PASSWORD: Final = re.compile(rb"passw\w{0,20}\s{0,8}=", re.IGNORECASE)
_CONNECTION: Final = re.compile(
    rb"\b(?:host|hostaddr|dbname|user|port|service|sslmode)\s{0,8}=", re.IGNORECASE
)
# A word of each: SQL that sets a password.
_ROLE_SQL: Final = tuple(
    re.compile(rb"\b(?:" + words + rb")\b", re.IGNORECASE)
    for words in (b"alter|create", b"role|user|group|subscription|server", b"password")
)
_USER_MAPPING: Final = re.compile(rb"\buser\s{1,8}mapping\b.{0,400}?\boptions\b", re.IGNORECASE | re.DOTALL)
_PASSWORD_IN_COMMENT: Final = re.compile(rb"(passw\w{0,20}\s{0,8}[:=]\s{0,8})([^\s,;*]+)", re.IGNORECASE)


def mask_literal(text: bytes, kind: int, start: int, end: int, shown: bytes = MASK) -> Mask:
    """A mask for a whole literal."""
    token = text[start:end]
    if kind == USTRING:
        return start, end, b"U&'" + shown + b"'", b"U&'" + MASK + b"'"
    if kind in (INTEGER, NUMBER):
        # "/" and an asterisk would begin a comment.
        return start, end, b" " + shown if text[start - 1 : start] == b"/" else shown, b"0"
    if kind == DOLLAR:
        tag = token[: token.index(b"$", 1) + 1]
        return start, end, tag + shown + tag, tag + MASK + tag
    return start, end, b"'" + shown + b"'", b"'" + MASK + b"'"


def mask_identifier(kind: int, start: int, end: int) -> Mask:
    """A mask for what should have been a literal."""
    if kind == QUOTED:
        return start, end, b'"' + MASK + b'"', b'"' + MASK + b'"'
    return start, end, MASK, b"xxx"


def mask_comment(text: bytes, start: int, end: int, shown: bytes = MASK) -> Mask:
    """A mask for a comment. Blanks keep the asterisks of a mask from being read as the end of the comment."""
    if text.startswith(b"--", start):
        return start, end, b"--" + (b" " if shown == MASK else b"") + shown, b"--"
    inside = shown.replace(MASK, b" *** ") if b"/" in shown or shown == MASK else shown
    closed = text.endswith(b"*/", start + 2, end)
    return start, end, b"/*" + inside + (b"*/" if closed else b""), b"/**/" if closed else b"/*"


def apply_masks(text: bytes, masks: list[Mask], which: int) -> bytes:
    """`text` with SHOWN or PARSED of the masks put in. Of masks that overlap, the first wins."""
    if not masks:
        return text
    parts: list[bytes] = []
    done = 0
    for mask in sorted(masks, key=lambda mask: (mask[0], -mask[1])):
        if mask[0] >= done:
            parts += (text[done : mask[0]], mask[2] if which == SHOWN else mask[3])
            done = mask[1]
    return b"".join((*parts, text[done:]))


def mask_sql(value: bytes) -> bytes:
    """`value`, a parameter's, redacted as a connection string or, if it is like SQL, as a statement.

    Where SQL sets a password that cannot be found, nothing of it is left. The same object if it has no
    secret.
    """
    shown = mask_conninfo(value)
    if shown is not value or suspects(value) % LONG == 0:
        return shown
    found = Secrets(value, True, True)
    if _sets_secret(value) and (not found.masks or b"\\" in value):
        return MASK
    return apply_masks(value, found.masks, SHOWN)


def _sets_secret(value: bytes) -> bool:
    return all(words.search(value) for words in _ROLE_SQL) or _USER_MAPPING.search(value) is not None


class Secrets:
    """The secrets of one text: `masks` in any order, and the numbers of `parameters` in a secret's place.

    `secret` tells that there are any. With `parsed` false, the text is taken for a mistyped statement: a
    word where a password should stand is one.
    """

    def __init__(self, text: bytes, standard_conforming: bool, parsed: bool, depth: int = 0) -> None:
        self.masks: list[Mask] = []
        self.parameters: set[int] = set()
        self.secret = False
        self._text = text
        self._conforming = standard_conforming
        self._parsed = parsed
        self._depth = depth
        flat = tokens(text, standard_conforming)
        self._tokens: list[tuple[int, int, int]] = []
        for kind, start, end in zip(flat[::3], flat[1::3], flat[2::3], strict=True):
            if kind == COMMENT:
                self._comment(start, end)
            else:
                self._tokens.append((kind, start, end))
        begin = 0
        for at, (kind, start, _) in enumerate(self._tokens):
            # Inside parentheses a semicolon separates too: nothing above a statement matters to the rules.
            if kind == MARK and text[start] == 0x3B:
                self._statement(begin, at)
                begin = at + 1
        self._statement(begin, len(self._tokens))

    def _name(self, at: int) -> bytes:
        """The identifier there in lower case, b"" for anything else."""
        if not 0 <= at < len(self._tokens):
            return b""
        kind, start, end = self._tokens[at]
        if kind == IDENTIFIER:
            return self._text[start:end].lower()
        if kind == QUOTED:
            return self._text[start:end].strip(b'"').replace(b'""', b'"').lower()
        return b""

    def _is(self, at: int, mark: bytes) -> bool:
        if not 0 <= at < len(self._tokens):
            return False
        kind, start, end = self._tokens[at]
        return kind in (MARK, OPERATOR) and self._text[start:end] == mark

    def _statement(self, begin: int, stop: int) -> None:
        names = {self._name(at) for at in range(begin, stop)}
        mapping = {b"user", b"mapping"} <= names
        regions: list[bytes] = []  # for each open parenthesis: what it belongs to
        secret_from = stop  # where the value of a secret setting begins
        hidden: set[int] = set()
        others: list[int] = []  # literals without a secret of their own
        dynamic = False
        for at in range(begin, stop):
            kind, start, end = self._tokens[at]
            region = regions[-1] if regions else b""
            if kind == MARK and self._text[start] == 0x28:
                regions.append(self._region(at, stop, region, mapping))
            elif kind == MARK and self._text[start] == 0x29 and regions:
                regions.pop()
            elif kind == PARAMETER:
                if at >= secret_from or region in (b"secret", b"config", b"connect"):
                    self._parameter(start, end)
            elif kind in (IDENTIFIER, QUOTED):
                name = self._name(at)
                if at >= secret_from:
                    if name not in _NO_VALUE:
                        self._found(mask_identifier(kind, start, end))
                elif name == b"set" and not names & _DML:
                    secret_from = self._set(at + 1, stop)
                elif _SECRET_NAME.search(name) or name == b"identified":
                    self._after_name(at, stop, self._name(begin), hidden)
            elif STRING <= kind <= NUMBER:
                if at >= secret_from or at in hidden or self._in_region(at, region):
                    self._found(mask_literal(self._text, kind, start, end))
                elif kind < INTEGER:
                    changed, unfinished = self._string(at, region)
                    dynamic = dynamic or unfinished
                    if not changed and not unfinished:
                        others.append(at)
        if dynamic:
            self.secret = True
            for at in others:
                self._found(mask_literal(self._text, *self._tokens[at]))
            for kind, start, end in self._tokens[begin:stop]:
                if kind == PARAMETER:
                    self._parameter(start, end)

    def _found(self, mask: Mask) -> None:
        self.masks.append(mask)
        self.secret = True

    def _parameter(self, start: int, end: int) -> None:
        self.parameters.add(int(self._text[start + 1 : end][:9]))
        self.secret = True

    def _region(self, at: int, stop: int, around: bytes, mapping: bool) -> bytes:
        name = self._name(at - 1)
        if around in (b"secret", b"config") or name in _SECRET_FUNCTIONS:
            return b"secret"
        if name == b"set_config" and at + 1 < stop:
            kind, start, end = self._tokens[at + 1]
            if STRING <= kind < INTEGER:
                setting = literal_value(self._text[start:end], kind, self._conforming)
                return b"config" if _SECRET_NAME.search(setting) else b""
        if mapping and name == b"options":
            return b"mapping"
        if name in _CONNECTING:
            return b"connect"
        return name if name.startswith(b"dblink") or name in _COMPOSING else b""

    def _in_region(self, at: int, region: bytes) -> bool:
        if region == b"config":
            return not self._is(at - 1, b"(")  # not the setting's name
        if region == b"mapping":
            return self._name(at - 1) not in _USER_NAMES
        return region == b"secret"

    def _set(self, at: int, stop: int) -> int:
        """Where the value begins of SET name { TO | = } value, if the name tells of a secret; else `stop`."""
        secret = False
        while at < stop and (self._name(at) or self._is(at, b".")):
            if self._name(at) == b"to":
                break
            name = self._name(at)
            secret = secret or (name != b"password_encryption" and _SECRET_NAME.search(name) is not None)
            at += 1
        return at + 1 if secret and at < stop and (self._is(at, b"=") or self._name(at) == b"to") else stop

    def _after_name(self, at: int, stop: int, command: bytes, hidden: set[int]) -> None:
        """PASSWORD or the like stands at `at`: hide the literal behind it."""
        mistyped = not self._parsed and command in (b"alter", b"create")
        at += 1
        if mistyped and (self._is(at, b"=") or self._name(at) == b"by"):
            at += 1
        if at >= stop:
            return
        kind, start, end = self._tokens[at]
        if STRING <= kind < INTEGER:
            hidden.add(at)
        elif kind == PARAMETER:
            self._parameter(start, end)
        elif mistyped and self._name(at) and self._name(at) not in _NO_VALUE:
            self._found(mask_identifier(kind, start, end))

    def _string(self, at: int, region: bytes) -> tuple[bool, bool]:
        """Look into a literal: (whether it was masked, whether its secret is in another literal)."""
        kind, start, end = self._tokens[at]
        token = self._text[start:end]
        value = literal_value(token, kind, self._conforming)
        if suspects(value) % LONG == 0:
            return False, False
        shown = mask_conninfo(value)
        connects = shown is not value
        if not connects:
            shown = self._inside(value)
        if shown == value and _SET_PASSWORD.search(value) and self._connects(at, region, value):
            shown = MASK  # a connection string that is not well formed
        unfinished = connects and needs_more(value)
        if region in _COMPOSING or self._is(at + 1, b"||"):
            unfinished = unfinished or _UNFINISHED.search(value) is not None
        if shown == value:
            return False, unfinished or all(words.search(value) for words in _ROLE_SQL)
        masked = literal(shown, token, kind, self._conforming)
        self._found((start, end, masked, masked))
        return True, unfinished

    def _connects(self, at: int, region: bytes, value: bytes) -> bool:
        if region.startswith((b"connect", b"dblink")) or self._name(at - 1) == b"connection":
            return True
        return self._tokens[at][0] != DOLLAR and _CONNECTION.search(value) is not None

    def _inside(self, value: bytes) -> bytes:
        """`value`, which may be SQL itself, without its secrets."""
        if self._depth >= _MAX_DEPTH:
            return MASK
        return apply_masks(value, Secrets(value, True, True, self._depth + 1).masks, SHOWN)

    def _comment(self, start: int, end: int) -> None:
        comment = self._text[start:end]
        if suspects(comment) % LONG == 0:
            return
        body = comment[2:].removesuffix(b"*/") if comment.startswith(b"/*") else comment[2:]
        shown = _PASSWORD_IN_COMMENT.sub(rb"\g<1>" + MASK, mask_conninfo(self._inside(body)))
        if shown != body:
            self._found(mask_comment(self._text, start, end, shown))
