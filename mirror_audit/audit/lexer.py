"""The tokens of SQL text, as PostgreSQL 18 lexes it. Compiled.

It knows tokens only, no grammar (PostgreSQL manual, 4.1 Lexical Structure; src/backend/parser/scan.l),
never raises, and is linear in the text. The text is UTF-8; bytes from 0x80 up belong to identifiers, valid
or not.
"""

from typing import Final

from mypy_extensions import i64

__all__ = [
    "BITS",
    "COMMENT",
    "DOLLAR",
    "END",
    "ESTRING",
    "HEX",
    "IDENTIFIER",
    "INTEGER",
    "MARK",
    "NSTRING",
    "NUMBER",
    "OPERATOR",
    "ORDINAL",
    "PARAMETER",
    "QUOTED",
    "STRING",
    "USTRING",
    "Lexer",
    "is_word",
]

# Kinds of token. STRING to NUMBER are the literals.
END: Final = 0
IDENTIFIER: Final = 1
QUOTED: Final = 2  # "x" and U&"x"
STRING: Final = 3
ESTRING: Final = 4
NSTRING: Final = 5
USTRING: Final = 6
DOLLAR: Final = 7
BITS: Final = 8
HEX: Final = 9
INTEGER: Final = 10  # fits into int4: the grammar's ICONST
NUMBER: Final = 11
ORDINAL: Final = 12  # never from Lexer: a literal that `scanner` takes for a part of the statement
PARAMETER: Final = 13
MARK: Final = 14  # ( ) [ ] , ; . .. or one character that begins no token
OPERATOR: Final = 15
COMMENT: Final = 16

_INT4_MAX: Final = 2147483647

# What a byte begins: 0 nothing, 1 blank, 2 identifier, 3 digit, 4 operator, 5 mark.
_BLANK: Final = 1
_LETTER: Final = 2
_DIGIT: Final = 3
_OPERATOR: Final = 4


def _class_of(c: int) -> int:
    if c in b" \t\n\r\f\v":
        return 1
    if c >= 0x80 or chr(c).isalpha() or c == 0x5F:
        return 2
    if 0x30 <= c <= 0x39:
        return 3
    if c in b"~!@#^&|`?+-*/%<>=:":
        return 4
    return 5 if c in b"()[],;." else 0


_CLASS: Final = bytes([_class_of(c) for c in range(256)])


class Lexer:
    """The tokens of one text, one after the other.

    `next()` returns the kind and leaves the token in text[start:end]. `spaced` tells whether blanks or
    comments stood before it. With `comments` true, comments are tokens; else they are skipped, and counted
    in `skipped`. A token that the text ends in the middle of reaches to the end, and sets `unterminated`.
    """

    def __init__(self, text: bytes, standard_conforming: bool, comments: bool) -> None:
        self.comments = comments
        self.start: i64 = 0
        self.end: i64 = 0
        self.spaced = False
        self.comment_start: i64 = 0  # the last comment that was skipped
        self.comment_end: i64 = 0
        self.value: i64 = 0  # of an INTEGER
        self.reset(text, standard_conforming)

    def reset(self, text: bytes, standard_conforming: bool) -> None:
        """Begin with another text."""
        self.text = text
        self.size: i64 = len(text)
        self.standard_conforming = standard_conforming
        self.position: i64 = 0
        self.unterminated = False
        self.skipped: i64 = 0
        self.again: i64 = 0  # bytes looked at a second time: the tests bound it, and so the work

    def next(self) -> i64:
        """Step to the next token; its kind, END at the end."""
        text = self.text
        n: i64 = self.size
        i: i64 = self.position
        self.spaced = False
        while i < n:
            c: i64 = text[i]
            cls: i64 = _CLASS[c]
            if cls == _BLANK:
                self.spaced = True
                i += 1
                continue
            if cls == _OPERATOR and i + 1 < n and self._comment_at(i):
                end: i64 = self._comment(i)
                if self.comments:
                    return self._emit(COMMENT, i, end)
                self.spaced = True
                self.skipped += 1
                self.comment_start = i
                self.comment_end = end
                i = end
                continue
            if cls == _LETTER:
                if i + 1 < n:
                    d: i64 = text[i + 1]
                    if d == 0x27 or d == 0x26:
                        kind: i64 = self._prefixed(i, c | 0x20, d)
                        if kind != END:
                            return kind
                j: i64 = i + 1
                while j < n:
                    c = text[j]
                    cls = _CLASS[c]
                    if cls != _LETTER and cls != _DIGIT and c != 0x24:
                        break
                    j += 1
                return self._emit(IDENTIFIER, i, j)
            if cls == _DIGIT:
                return self._number(i)
            if c == 0x27:
                return self._emit(STRING, i, self._string(i, not self.standard_conforming, True))
            if c == 0x22:
                return self._emit(QUOTED, i, self._quoted(i))
            if c == 0x24:
                return self._dollar(i)
            if cls == _OPERATOR:
                j = i + 1
                while j < n:
                    c = text[j]
                    if _CLASS[c] != _OPERATOR or (j + 1 < n and self._comment_at(j)):
                        break
                    j += 1
                return self._emit(OPERATOR, i, j)
            if c == 0x2E and i + 1 < n:
                d = text[i + 1]
                if d == 0x2E:
                    return self._emit(MARK, i, i + 2)
                if _CLASS[d] == _DIGIT:
                    return self._number(i)
            return self._emit(MARK, i, i + 1)
        return self._emit(END, n, n)

    def _emit(self, kind: i64, start: i64, end: i64) -> i64:
        self.start = start
        self.end = end
        self.position = end
        return kind

    def _comment_at(self, i: i64) -> bool:
        c: i64 = self.text[i]
        d: i64 = self.text[i + 1]
        return (c == 0x2D and d == 0x2D) or (c == 0x2F and d == 0x2A)

    def _comment(self, i: i64) -> i64:
        text = self.text
        n: i64 = self.size
        c: i64 = text[i]
        if c == 0x2D:
            i += 2
            while i < n:
                c = text[i]
                if c == 0x0A or c == 0x0D:
                    return i
                i += 1
            return n
        depth: i64 = 1
        i += 2
        while i + 1 < n:
            c = text[i]
            if c == 0x2A and text[i + 1] == 0x2F:
                depth -= 1
                i += 2
                if depth == 0:
                    return i
            elif c == 0x2F and text[i + 1] == 0x2A:
                depth += 1
                i += 2
            else:
                i += 1
        self.unterminated = True
        return n

    def _prefixed(self, i: i64, c: i64, d: i64) -> i64:
        if d == 0x26:
            if c != 0x75 or i + 2 >= self.size:
                return END
            q: i64 = self.text[i + 2]
            if q == 0x27:
                return self._emit(USTRING, i, self._string(i + 2, False, True))
            if q == 0x22:
                return self._emit(QUOTED, i, self._quoted(i + 2))
            return END
        if c == 0x65:
            return self._emit(ESTRING, i, self._string(i + 1, True, True))
        if c == 0x6E:
            return self._emit(NSTRING, i, self._string(i + 1, not self.standard_conforming, True))
        if c == 0x62:
            return self._emit(BITS, i, self._string(i + 1, False, False))
        if c == 0x78:
            return self._emit(HEX, i, self._string(i + 1, False, False))
        return END

    def _string(self, i: i64, backslash: bool, doubled: bool) -> i64:
        text = self.text
        n: i64 = self.size
        i += 1
        while i < n:
            c: i64 = text[i]
            if c == 0x5C and backslash:
                i += 2
            elif c == 0x27:
                if doubled and i + 1 < n and text[i + 1] == 0x27:
                    i += 2
                    continue
                more: i64 = self._continuation(i + 1)
                if more == 0:
                    return i + 1
                i = more
            else:
                i += 1
        self.unterminated = True
        return n

    def _continuation(self, i: i64) -> i64:
        """Where the literal goes on in another pair of quotes, after the end of a line; 0 if it does not."""
        text = self.text
        n: i64 = self.size
        begin: i64 = i
        line = False
        while i < n:
            c: i64 = text[i]
            if c == 0x0A or c == 0x0D:
                line = True
                i += 1
            elif _CLASS[c] == _BLANK:
                i += 1
            elif c == 0x2D and i + 1 < n and text[i + 1] == 0x2D:
                i = self._comment(i)
                if i >= n:
                    break
            elif c == 0x27 and line:
                return i + 1
            else:
                break
        self.again += i - begin
        return 0

    def _quoted(self, i: i64) -> i64:
        text = self.text
        n: i64 = self.size
        i += 1
        while i < n:
            if text[i] == 0x22:
                if i + 1 < n and text[i + 1] == 0x22:
                    i += 1
                else:
                    return i + 1
            i += 1
        self.unterminated = True
        return n

    def _dollar(self, i: i64) -> i64:
        text = self.text
        n: i64 = self.size
        j: i64 = i + 1
        c: i64 = 0
        if j < n:
            c = text[j]
            if _CLASS[c] == _DIGIT:
                while j < n:
                    c = text[j]
                    if _CLASS[c] != _DIGIT:
                        break
                    j += 1
                return self._emit(PARAMETER, i, j)
            while j < n:
                c = text[j]
                cls: i64 = _CLASS[c]
                if cls != _LETTER and (cls != _DIGIT or j == i + 1):
                    break
                j += 1
            self.again += j - i
            if j < n and c == 0x24:
                tag = text[i : j + 1]
                close: i64 = text.find(tag, j + 1)
                if close < 0:
                    self.unterminated = True
                    return self._emit(DOLLAR, i, n)
                end: i64 = close + len(tag)
                return self._emit(DOLLAR, i, end)
        return self._emit(MARK, i, i + 1)

    def _digits(self, i: i64) -> i64:
        """The end of digits with single underscores between them."""
        text = self.text
        n: i64 = self.size
        while i < n:
            c: i64 = text[i]
            if _CLASS[c] == _DIGIT:
                i += 1
            elif c == 0x5F and i + 1 < n and _CLASS[text[i + 1]] == _DIGIT:
                i += 2
            else:
                break
        return i

    def _number(self, i: i64) -> i64:
        text = self.text
        n: i64 = self.size
        c: i64 = text[i]
        j: i64 = i
        whole = True
        if c == 0x30 and i + 1 < n:
            j = self._radix(i)
            if j > i:
                return self._emit(INTEGER if self.value <= _INT4_MAX else NUMBER, i, j)
        if c != 0x2E:
            j = self._digits(i)
        if j < n and text[j] == 0x2E and (j + 1 >= n or text[j + 1] != 0x2E):
            whole = False
            if j + 1 < n and _CLASS[text[j + 1]] == _DIGIT:
                j = self._digits(j + 1)
            else:
                j += 1
        if j + 1 < n and text[j] | 0x20 == 0x65:
            k: i64 = j + 1
            c = text[k]
            if (c == 0x2B or c == 0x2D) and k + 1 < n:
                k += 1
                c = text[k]
            if _CLASS[c] == _DIGIT:
                whole = False
                j = self._digits(k)
        if whole:
            value: i64 = 0
            k = i
            while k < j and value <= _INT4_MAX:
                c = text[k]
                if c != 0x5F:
                    value = value * 10 + c - 0x30
                k += 1
            self.value = value
            if value <= _INT4_MAX:
                return self._emit(INTEGER, i, j)
        return self._emit(NUMBER, i, j)

    def _radix(self, i: i64) -> i64:
        """The end of 0x1F, 0o17 or 0b11, or `i` if there is none; the value goes to `value`, capped."""
        text = self.text
        n: i64 = self.size
        c: i64 = text[i + 1] | 0x20
        base: i64 = 16 if c == 0x78 else 8 if c == 0x6F else 2 if c == 0x62 else 0
        if base == 0:
            return i
        value: i64 = 0
        j: i64 = i + 2
        end: i64 = i
        while j < n:
            c = text[j]
            if c == 0x5F and j + 1 < n:
                j += 1
                c = text[j]
            c = c - 0x30 if c <= 0x39 else (c | 0x20) - 0x57
            if c < 0 or c >= base:
                break
            if value <= _INT4_MAX:
                value = value * base + c
            j += 1
            end = j
        self.value = value
        return end


def is_word(text: bytes, start: i64, end: i64, word: bytes) -> bool:
    """True if text[start:end] is `word` (lower case ASCII), in any case."""
    n: i64 = len(word)
    if end - start != n or start < 0 or end > len(text):
        return False
    i: i64 = 0
    while i < n:
        c: i64 = text[start + i]
        if c >= 0x41 and c <= 0x5A:
            c |= 0x20
        if c != word[i]:
            return False
        i += 1
    return True
