"""What the audit needs of SQL text at wire speed: statements, literals, skeletons, suspects. Compiled.

A *skeleton* is a statement with each literal replaced by one fixed literal of its kind, and each run of
blanks and comments by one space. It is SQL again and holds nothing of what a literal said, so that whatever
is derived from it is free of values. Two kinds of literal stay as written: integers of up to four digits
that begin an item of ORDER BY or GROUP BY, and the one character after UESCAPE.
"""

from typing import Final

from librt.strings import BytesWriter
from mypy_extensions import i64, u8

from mirror_audit.audit.lexer import (
    BITS,
    COMMENT,
    DOLLAR,
    END,
    HEX,
    IDENTIFIER,
    INTEGER,
    MARK,
    NUMBER,
    OPERATOR,
    ORDINAL,
    QUOTED,
    STRING,
    USTRING,
    Lexer,
    is_word,
)
from mirror_audit.audit.suspects import LONG, suspects

__all__ = [
    "DML",
    "HAS_COMMENT",
    "LONG_DIGITS",
    "SECRET_WORD",
    "UNTERMINATED",
    "Scan",
    "literal_spans",
    "scan",
    "split_statements",
    "tokens",
]

# Flags of a Scan.
HAS_COMMENT: Final = 1
LONG_DIGITS: Final = 2  # 13 digits or more, blanks, dashes and quotes between them left out
SECRET_WORD: Final = 4  # see `suspects`
UNTERMINATED: Final = 8
DML: Final = 16  # SELECT, INSERT, UPDATE, DELETE, MERGE, VALUES, TABLE, WITH

_MAX_ORDINAL: Final = 9999
_COPY_BYTEWISE: Final = 24


class _Kept:
    """Follows the tokens and finds the literals that belong to the statement rather than to its values."""

    def __init__(self, text: bytes) -> None:
        self.reset(text)

    def reset(self, text: bytes) -> None:
        self.text = text
        self.depth: i64 = 0
        self.by_depth: i64 = -1
        self.kind: i64 = END
        self.start: i64 = 0
        self.end: i64 = 0

    def step(self, kind: i64, start: i64, end: i64, value: i64) -> bool:
        """Take the next token; true if it is a literal that stays."""
        text = self.text
        keep = False
        if kind == IDENTIFIER:
            if end - start == 2 and is_word(text, start, end, b"by") and self._after_order():
                self.by_depth = self.depth
        elif kind == MARK:
            c: i64 = text[start]
            if c == 0x28:
                self.depth += 1
            elif c == 0x29:
                if self.depth > 0:
                    self.depth -= 1
                if self.depth < self.by_depth:
                    self.by_depth = -1
            elif c == 0x3B:
                self.by_depth = -1
        elif kind == INTEGER:
            if self.by_depth == self.depth and end - start <= 4 and value <= _MAX_ORDINAL:
                if self.kind == MARK:
                    c = text[self.start]
                    keep = c == 0x2C
                elif self.kind == IDENTIFIER:
                    keep = is_word(text, self.start, self.end, b"by")
        elif kind == STRING and end - start == 3 and self.kind == IDENTIFIER:
            keep = is_word(text, self.start, self.end, b"uescape")
        self.kind = kind
        self.start = start
        self.end = end
        return keep

    def _after_order(self) -> bool:
        text = self.text
        return is_word(text, self.start, self.end, b"order") or is_word(text, self.start, self.end, b"group")


class Scan:
    """What `scan` found; used again for text after text."""

    def __init__(self) -> None:
        self.skeleton = b""
        self.flags: i64 = 0
        self.secret_words: i64 = 0
        # The comment before the first token, and the one after the last: where sqlcommenter puts its tags.
        self.first_start: i64 = 0
        self.first_end: i64 = 0
        self.last_start: i64 = 0
        self.last_end: i64 = 0
        self.writer = BytesWriter()
        self.lexer = Lexer(b"", True, False)
        self.kept = _Kept(b"")


def _is_dml(text: bytes, start: i64, end: i64) -> bool:
    return (
        is_word(text, start, end, b"select")
        or is_word(text, start, end, b"insert")
        or is_word(text, start, end, b"update")
        or is_word(text, start, end, b"delete")
        or is_word(text, start, end, b"with")
        or is_word(text, start, end, b"values")
        or is_word(text, start, end, b"merge")
        or is_word(text, start, end, b"table")
    )


def _copy(w: BytesWriter, text: bytes, start: i64, end: i64) -> None:
    if end - start > _COPY_BYTEWISE:
        w.write(text[start:end])
        return
    while start < end:
        c: u8 = text[start]  # BytesWriter.append is native for u8 alone
        w.append(c)
        start += 1


def _marker(w: BytesWriter, kind: i64) -> None:
    if kind == INTEGER:
        w.append(0x31)
    elif kind == NUMBER:
        w.write(b"1.0")
    elif kind == BITS:
        w.write(b"B'1'")
    elif kind == HEX:
        w.write(b"X'1'")
    elif kind == USTRING:
        w.write(b"U&'s'")
    else:
        w.write(b"'s'")


def _needs_space(text: bytes, before: i64, start: i64, kind: i64, first: i64) -> bool:
    """True if a replaced literal here would run together with its neighbour, and so be another token.

    before, start: the token in front; kind, first: the token at hand and its first byte.
    """
    if kind >= STRING and kind <= NUMBER:
        if before == OPERATOR:
            return kind == DOLLAR  # U&$$x$$ must not become U&'s'
        if before == MARK:
            c: i64 = text[start]
            return not (
                c == 0x28 or c == 0x29 or c == 0x2C or c == 0x3B or c == 0x5B or c == 0x5D or c == 0x2E
            )
        return before != END
    if before == INTEGER or before == NUMBER:
        return kind == IDENTIFIER or kind == QUOTED or (kind == MARK and (first == 0x2E or first == 0x24))
    return False


def _same(w: BytesWriter, first: i64, second: i64, size: i64) -> bool:
    i: i64 = 0
    while i < size:
        if w[first + i] != w[second + i]:
            return False
        i += 1
    return True


def scan(text: bytes, standard_conforming: bool, out: Scan) -> None:
    """Fill `out` from one statement.

    The skeleton has only the first of the literals that follow each other in IN (...), and of rows of
    VALUES that are alike: libpg_query gives the same fingerprint whatever their number.
    """
    lexer = out.lexer
    lexer.reset(text, standard_conforming)
    kept = out.kept
    kept.reset(text)
    w = out.writer
    w.truncate(0)
    flags: i64 = 0
    before: i64 = END
    in_list: i64 = 0  # 1: after IN; 2: after IN ( and only literals since
    comma: i64 = 0  # the skeleton's length before the comma in IN (...)
    rows_depth: i64 = -1  # the depth of VALUES while its rows come
    row: i64 = 0
    row_before: i64 = -1
    size_before: i64 = 0
    whole: i64 = 0  # the skeleton's length without semicolons at its end
    last_end: i64 = 0
    out.first_start = 0
    out.first_end = 0
    while True:
        kind: i64 = lexer.next()
        start: i64 = lexer.start
        end: i64 = lexer.end
        if before == END and lexer.skipped > 0:
            out.first_start = lexer.comment_start
            out.first_end = lexer.comment_end
        if kind == END:
            break
        c: i64 = text[start]
        length: i64 = len(w)
        if kind == QUOTED and lexer.unterminated:
            kind = STRING  # who knows what the quote was meant to be
        if before == END:
            if kind == IDENTIFIER and _is_dml(text, start, end):
                flags |= DML
        elif lexer.spaced or _needs_space(text, before, kept.start, kind, c):
            w.append(0x20)
        depth: i64 = kept.depth
        stays = kept.step(kind, start, end, lexer.value)
        if kind >= STRING and kind <= NUMBER:
            if stays:
                w.write(text[start:end])
                in_list = 0
            elif in_list == 2 and before == MARK and comma > 0:
                w.truncate(comma)
            else:
                _marker(w, kind)
            comma = 0
        elif kind == IDENTIFIER:
            _copy(w, text, start, end)
            in_list = 0
            if depth == rows_depth:
                rows_depth = -1
            if end - start == 2:
                if is_word(text, start, end, b"in"):
                    in_list = 1
            elif end - start == 6 and is_word(text, start, end, b"values"):
                rows_depth = depth
                row_before = -1
        elif kind == MARK:
            if c == 0x2C and in_list == 2 and before >= STRING and before <= NUMBER:
                comma = length
            elif c == 0x28 and in_list == 1:
                in_list = 2
            else:
                in_list = 0
            if c == 0x28 and depth == rows_depth:
                row = len(w)
            _copy(w, text, start, end)
            if c == 0x29 and kept.depth == rows_depth:
                length = len(w) - row
                if row_before >= 0 and length == size_before and _same(w, row_before, row, length):
                    w.truncate(row_before + length)
                else:
                    row_before = row
                    size_before = length
            elif (depth == rows_depth and c != 0x28 and c != 0x2C) or kept.depth < rows_depth:
                rows_depth = -1
        else:
            _copy(w, text, start, end)
            in_list = 0
            if depth == rows_depth:
                rows_depth = -1
        before = kind
        if kind != MARK or c != 0x3B:
            whole = len(w)
            last_end = end
    w.truncate(whole)
    if lexer.skipped > 0:
        flags |= HAS_COMMENT
    out.last_start = 0
    out.last_end = 0
    if lexer.skipped > 0 and lexer.comment_start >= last_end:
        out.last_start = lexer.comment_start
        out.last_end = lexer.comment_end
    if lexer.unterminated:
        flags |= UNTERMINATED
        w.write(b" '")  # such a text is no SQL, so its skeleton must not be either
    out.skeleton = w.getvalue()
    found: i64 = suspects(text)
    if found >= LONG:
        flags |= LONG_DIGITS
        found -= LONG
    if found > 0:
        flags |= SECRET_WORD
    out.secret_words = found
    out.flags = flags


def tokens(text: bytes, standard_conforming: bool) -> list[int]:
    """[kind, start, end, ...] of all tokens and comments; literals that a skeleton keeps are ORDINAL."""
    lexer = Lexer(text, standard_conforming, True)
    kept = _Kept(text)
    found: list[int] = []
    while True:
        kind: i64 = lexer.next()
        if kind == END:
            return found
        start: i64 = lexer.start
        end: i64 = lexer.end
        if kind != COMMENT and kept.step(kind, start, end, lexer.value):
            kind = ORDINAL
        found.append(kind)
        found.append(start)
        found.append(end)


def literal_spans(text: bytes, standard_conforming: bool) -> list[tuple[int, int, int]]:
    """(start, end, kind) of each literal; those that a skeleton keeps are none."""
    flat = tokens(text, standard_conforming)
    spans: list[tuple[int, int, int]] = []
    i: i64 = 0
    n: i64 = len(flat)
    while i < n:
        kind: i64 = flat[i]
        if kind >= STRING and kind <= NUMBER:
            spans.append((flat[i + 1], flat[i + 2], flat[i]))
        i += 3
    return spans


def split_statements(text: bytes, standard_conforming: bool) -> list[int]:
    """[start0, end0, start1, end1, ...] of the statements, without the blanks around them and the semicolons.

    Semicolons inside parentheses and inside the BEGIN ATOMIC ... END of a routine do not separate. A
    comment belongs to the statement that it stands before or in; what holds comments only is no statement.
    """
    lexer = Lexer(text, standard_conforming, True)
    found: list[int] = []
    parentheses: i64 = 0
    blocks: i64 = 0  # BEGIN ATOMIC and CASE that are open, inside a routine's body
    first: i64 = -1  # where the statement begins
    last: i64 = 0
    real = False  # it has a token
    create = False
    label = False  # the token before makes any word a name: AS x, t.x
    begin = False
    while True:
        kind: i64 = lexer.next()
        start: i64 = lexer.start
        end: i64 = lexer.end
        if kind == END or (kind == MARK and parentheses == 0 and blocks == 0 and text[start] == 0x3B):
            if real:
                found.append(first)
                found.append(last)
            if kind == END:
                return found
            first = -1
            real = False
            create = False
            begin = False
            label = False
            continue
        if first < 0:
            first = start
        last = end
        if kind == COMMENT:
            continue
        was_label = label
        was_begin = begin
        label = False
        begin = False
        if kind == IDENTIFIER:
            if not real:
                create = is_word(text, start, end, b"create")
            elif create and not was_label:
                if is_word(text, start, end, b"as"):
                    label = True
                elif blocks == 0:
                    begin = is_word(text, start, end, b"begin")
                    if was_begin and is_word(text, start, end, b"atomic"):
                        blocks = 1
                elif is_word(text, start, end, b"case"):
                    blocks += 1
                elif is_word(text, start, end, b"end"):
                    blocks -= 1
        elif kind == MARK:
            c: i64 = text[start]
            if c == 0x28:
                parentheses += 1
            elif c == 0x29 and parentheses > 0:
                parentheses -= 1
            elif c == 0x2E:
                label = True
        real = True
