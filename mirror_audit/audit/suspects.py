"""A first look at a text: can there be a secret in it at all? Compiled.

It errs on the safe side only: what it passes needs no redaction, what it stops is looked at again with more
care (see `audit.redact`). Whatever word `audit.redact` acts on must be among the words here.
"""

from typing import Final

from mypy_extensions import i64

from mirror_audit.audit.lexer import is_word

__all__ = ["LONG", "suspects", "suspicious"]

LONG: Final = 1 << 32
_ESCAPE_SIZE: Final = 10  # of the longest escape: backslash, U and eight digits
_CARD_DIGITS: Final = 13  # of the shortest card number


def suspects(text: bytes) -> i64:
    """The number of words in `text` that hint at a secret, in any case; plus LONG for a long run of digits.

    The words: pass..., pwd, secret, token, credential, conninfo, postgres..., mapping, crypt, hmac, pgp_,
    dblink, api_key and its like, and "@" behind "://". The digits: 13 or more; blanks, dashes, quotes and
    what may belong to an escape between do not count. UESCAPE, which makes anything an escape, counts as
    such a run. Three names of settings that tell how quotes are read count as words too (see
    `audit.analysis`).
    """
    n: i64 = len(text)
    count: i64 = 0
    digits: i64 = 0
    long: i64 = 0
    escape: i64 = -_ESCAPE_SIZE  # where the last backslash was
    uri = False
    i: i64 = 0
    while i < n:
        c: i64 = text[i]
        if c <= 0x39:
            if c >= 0x30:
                digits += 1
                if digits >= _CARD_DIGITS:
                    long = LONG
            elif (
                digits > 0
                and i - escape >= _ESCAPE_SIZE
                and not (c == 0x20 or c == 0x2D or c == 0x27 or c == 0x25 or (c >= 0x09 and c <= 0x0D))
            ):
                digits = 0
        elif c > 0x40:
            if c == 0x5C:
                escape = i
            elif c != 0x5F:
                if digits > 0 and i - escape >= _ESCAPE_SIZE:
                    digits = 0
                c |= 0x20
                if c == 0x70 or c == 0x63 or c == 0x6B:
                    if _secret_at(text, i, c):
                        count += 1
                    elif c == 0x63 and i > 2 and (text[i - 1] | 0x20) == 0x73 and _uescape_at(text, i):
                        long = LONG
        else:
            if digits > 0 and i - escape >= _ESCAPE_SIZE:
                digits = 0
            if c == 0x3A:
                uri = uri or (i + 2 < n and text[i + 1] == 0x2F and text[i + 2] == 0x2F)
            elif c == 0x40 and uri:
                count += 1
        i += 1
    return count + long


def _uescape_at(text: bytes, i: i64) -> bool:
    return is_word(text, i - 3, i + 4, b"uescape")


def _secret_at(text: bytes, i: i64, c: i64) -> bool:
    # Each word has a p, c or k that tells it from most other words, and these letters are rare enough. One
    # neighbour is looked at first: most of them are no such word.
    n: i64 = len(text)
    after: i64 = 0
    if i + 1 < n:
        after = text[i + 1] | 0x20
    before: i64 = 0
    if i > 0:
        before = text[i - 1] | 0x20
    if c == 0x70:
        if after == 0x61:
            return is_word(text, i + 1, i + 4, b"ass")  # password, passwd, passphrase
        if after == 0x77:
            return is_word(text, i + 1, i + 3, b"wd")
        if after == 0x67:
            return is_word(text, i + 1, i + 4, b"gp_")
        if after == 0x6F:
            return is_word(text, i + 1, i + 8, b"ostgres")  # postgres://user:password@host
        return after == 0x70 and is_word(text, i - 2, i + 5, b"mapping")
    if c == 0x63:
        if after == 0x72:
            return (
                is_word(text, i + 1, i + 5, b"rypt")
                or is_word(text, i - 2, i + 4, b"secret")
                or is_word(text, i + 1, i + 10, b"redential")
            )
        if before == 0x61 and is_word(text, i - 3, i + 1, b"hmac"):
            return True
        if after == 0x6F:
            return is_word(text, i + 1, i + 8, b"onninfo") or is_word(text, i - 9, i + 5, b"standard_confo")
        if after == 0x6C:
            return is_word(text, i + 1, i + 15, b"lient_encoding")
        return after == 0x6B and is_word(text, i - 2, i + 13, b"backslash_quote")
    if before == 0x6F:
        return is_word(text, i - 2, i + 3, b"token")
    if before == 0x6E:
        return is_word(text, i - 5, i + 1, b"dblink")
    if after != 0x65:
        return False
    return (
        is_word(text, i - 3, i + 3, b"apikey")
        or is_word(text, i - 4, i + 3, b"api_key")
        or is_word(text, i - 7, i + 3, b"access_key")
        or is_word(text, i - 8, i + 3, b"private_key")
        or is_word(text, i - 11, i + 3, b"encryption_key")
    )


def suspicious(text: bytes) -> bool:
    """True if `text` has a word that hints at a secret, or digits enough for a card number."""
    return suspects(text) > 0
