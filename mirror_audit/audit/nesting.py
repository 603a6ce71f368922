"""How deep a statement nests, told from its tokens. Compiled.

libpg_query and the JSON it writes recurse on the parse tree without looking at the stack: 32,000 times "+1"
overflow 8 MB. So the depth has to be known before libpg_query is asked.
"""

from mypy_extensions import i64

from mirror_audit.audit.lexer import END, IDENTIFIER, MARK, OPERATOR, Lexer, is_word

__all__ = ["nesting"]


def nesting(text: bytes) -> i64:
    """A bound on how deep PostgreSQL's parse tree of `text` (a skeleton) can be.

    Chains as in a + b + c nest as parentheses do; lists, AND and OR do not.
    """
    lexer = Lexer(text, True, False)
    outer: list[int] = []  # for each open parenthesis: the links around it
    chain: i64 = 0  # links since the last comma, AND or OR
    joins: i64 = 0  # links that these do not end
    below: i64 = 0  # the links of all levels around
    deepest: i64 = 0
    while True:
        kind: i64 = lexer.next()
        if kind == END:
            return deepest
        start: i64 = lexer.start
        end: i64 = lexer.end
        c: i64 = text[start]
        opens = False
        closes = False
        if kind == OPERATOR:
            chain += 1
        elif kind == MARK:
            opens = c == 0x28 or c == 0x5B
            closes = c == 0x29 or c == 0x5D
            if c == 0x2C:
                chain = 0
            elif c == 0x3B:
                outer.clear()
                chain = 0
                joins = 0
                below = 0
        elif kind == IDENTIFIER:
            opens = is_word(text, start, end, b"case")
            closes = is_word(text, start, end, b"end")
            if is_word(text, start, end, b"and") or is_word(text, start, end, b"or"):
                chain = 0
            elif _links(text, start, end):
                chain += 1
            elif _joins(text, start, end):
                joins += 1
        if opens:
            below += chain + joins + 1
            outer.append(chain)
            outer.append(joins)
            chain = 0
            joins = 0
        elif closes and len(outer) > 0:
            joins = outer.pop()
            chain = outer.pop()
            below -= chain + joins + 1
            chain += 1  # a[1][2], f()[1]: what was closed may itself be a link
        if below + chain + joins > deepest:
            deepest = below + chain + joins


def _links(text: bytes, start: i64, end: i64) -> bool:
    size: i64 = end - start
    if size == 2:
        return is_word(text, start, end, b"is") or is_word(text, start, end, b"at")
    return (
        is_word(text, start, end, b"not")
        or is_word(text, start, end, b"like")
        or is_word(text, start, end, b"ilike")
        or is_word(text, start, end, b"collate")
        or is_word(text, start, end, b"isnull")
        or is_word(text, start, end, b"notnull")
        or is_word(text, start, end, b"similar")
        or is_word(text, start, end, b"between")
        or is_word(text, start, end, b"overlaps")
    )


def _joins(text: bytes, start: i64, end: i64) -> bool:
    return (
        is_word(text, start, end, b"join")
        or is_word(text, start, end, b"union")
        or is_word(text, start, end, b"except")
        or is_word(text, start, end, b"intersect")
    )
