"""Statement text in, everything that its audit record says about it out. Compiled.

Redaction comes first, all else is made of its result. Two caches make it fast: by the exact text, and by
the skeleton (see `audit.scanner`), on which alone the facts depend. Both are bounded in entries and bytes,
and keep what was used lately: entries live in a young and an old generation; when the young one is full it
becomes the old one, which is dropped then.
"""

import re
from typing import Final

from librt.strings import BytesWriter
from mypy_extensions import i64

from mirror_audit.audit import sqlfacts
from mirror_audit.audit.comment_tags import parse_tags
from mirror_audit.audit.lexer import COMMENT, IDENTIFIER, MARK, is_word
from mirror_audit.audit.redact import NONE, SECRETS, VALUES, Redaction, Redactor
from mirror_audit.audit.scanner import HAS_COMMENT, LONG_DIGITS, UNTERMINATED, Scan, scan, tokens
from mirror_audit.audit.sensitive import MASK, mask_cards, mask_conninfo
from mirror_audit.audit.sqlfacts import NO_EFFECT, PREPARE, SET_UNKNOWN, Effect
from mirror_audit.audit.suspects import LONG, suspects, suspicious
from mirror_audit.errors import ConfigError
from mirror_audit.jsontext import write_string

__all__ = ["Analyser", "Analysis", "AnalysisLimits"]

_NULL: Final = b"null"
_OVERHEAD: Final = 500  # bytes that an entry takes beside its texts, roughly


_QUOTING: Final = re.compile(
    rb"standard_conforming_strings|client_encoding|backslash_quote|\bset\b.{0,20}\bnames\b",
    re.IGNORECASE | re.DOTALL,
)
_DO: Final = re.compile(rb"do\b", re.IGNORECASE)
_BY_LITERAL: Final = re.compile(rb"set_config|pg_settings|u&\"", re.IGNORECASE)
# In the code of a DO; a backslash may spell any of them.
_DO_SETS: Final = re.compile(
    rb"set_config|pg_settings|authorization|search_path|\b(?:reset|discard|role)\b|\\|u&", re.IGNORECASE
)


class AnalysisLimits:
    """Bounds of the caches and of what is parsed. Sizes in bytes.

    `texts` and `text_bytes`: the cache by text. `skeletons` and `skeleton_bytes`: the one by skeleton.
    Longer texts than `cached_text` are analysed each time. Longer skeletons than `sql` are not parsed, and
    shown as `normalized` up to that length.
    """

    def __init__(
        self,
        texts: i64 = 20_000,
        text_bytes: i64 = 32 * 1024 * 1024,
        skeletons: i64 = 10_000,
        skeleton_bytes: i64 = 32 * 1024 * 1024,
        cached_text: i64 = 64 * 1024,
        sql: i64 = sqlfacts.MAX_SQL_BYTES,
    ) -> None:
        self.texts = texts
        self.text_bytes = text_bytes
        self.skeletons = skeletons
        self.skeleton_bytes = skeleton_bytes
        self.cached_text = cached_text
        self.sql = sql


class Analysis:
    """What is known of one statement text. Shared by all statements with this text: not to be changed.

    text: redacted, `redacted` if that differs from what was sent. facts_json:
    `"class":...,"fingerprint":..., "normalized":...,"tables":...` of the record. effect, effect_name,
    effect_argument: see `audit.sqlfacts`; other_effects: further ones, of a SELECT with set_config;
    effect_parameter: see `Effect`. inner: the statement behind PREPARE ... AS. secret: there is a secret in
    the text or in one of `secret_parameters` (numbers from 1). hides_effect: it may change the role or the
    search_path in a way that the effects do not tell, or not fully. sets_quoting: it may change how the
    server reads quotes (standard_conforming_strings, client_encoding, backslash_quote). text_json and
    text_json_length: free for whoever writes the text into records.
    """

    def __init__(self, text: bytes, redacted: bool, shape: "_Shape") -> None:
        self.text = text
        self.redacted = redacted
        self.facts_json = shape.facts_json
        self.statement_class: bytes | None = shape.statement_class
        self.parsed = shape.parsed
        self.secret = shape.secret
        self.secret_parameters: frozenset[int] = shape.parameters
        self.effect: i64 = shape.effect
        self.effect_name: bytes | None = shape.effect_name
        self.effect_argument: bytes | None = shape.effect_argument
        self.effect_parameter: i64 = 0
        self.hides_effect = shape.hides_effect
        self.sets_quoting = shape.sets_quoting
        self.other_effects: tuple[Effect, ...] = ()
        self.inner: Analysis | None = None
        self.comment_tags_json = _NULL
        self.text_json = b""
        self.text_json_length: i64 = -1

    def set_effects(self, effects: tuple[Effect, ...]) -> None:
        """Take the effects of the text itself in the place of its skeleton's."""
        self.effect = NO_EFFECT
        self.effect_name = None
        self.effect_argument = None
        if len(effects) > 0:
            first = effects[0]
            self.effect = first.code
            self.effect_name = first.name
            self.effect_argument = first.argument
            self.effect_parameter = first.parameter
            self.other_effects = effects[1:]
        for effect in effects:
            if effect.code == SET_UNKNOWN and effect.name is None:
                self.hides_effect = True


class _Shape:
    """What follows from a skeleton."""

    def __init__(self, skeleton: bytes, facts: sqlfacts.Facts, redaction: Redaction) -> None:
        self.parsed: bool = facts.parsed
        self.too_long: bool = facts.too_long
        self.statement_class: bytes | None = facts.statement_class
        self.facts_json = _facts_json(facts)
        self.tables_left_out: i64 = facts.tables_left_out
        self.literal_effects: bool = facts.literal_effects
        self.hides_effect: bool = facts.hides_effect
        self.sets_quoting = _QUOTING.search(skeleton) is not None
        # Of these the text has to be looked at: a literal may be a name, or all of the code.
        self.is_do = _DO.match(skeleton) is not None
        self.sets_by_literal = self.is_do or _BY_LITERAL.search(skeleton) is not None
        effects: tuple[Effect, ...] = facts.effects
        self.effects = effects
        self.effect: i64 = NO_EFFECT
        self.effect_name: bytes | None = None
        self.effect_argument: bytes | None = None
        if len(effects) > 0:
            self.effect = effects[0].code
            self.effect_name = effects[0].name
            self.effect_argument = effects[0].argument
        self.secret: bool = redaction.secret
        self.parameters: frozenset[int] = redaction.parameters
        # Whether texts of this skeleton need no redaction, as long as all their suspicious words are in it.
        self.harmless: bool = redaction.text == skeleton
        self.secret_words: i64 = suspects(skeleton) % LONG


class _TextCache:
    def __init__(self) -> None:
        self.young: dict[bytes, Analysis] = {}
        self.old: dict[bytes, Analysis] = {}
        self.size: i64 = 0


def _write_optional(w: BytesWriter, value: bytes | None) -> None:
    if value is None:
        w.write(_NULL)
    else:
        write_string(w, value)


def _facts_json(facts: sqlfacts.Facts) -> bytes:
    w = BytesWriter()
    w.write(b'"class":')
    _write_optional(w, facts.statement_class)
    w.write(b',"fingerprint":')
    _write_optional(w, facts.fingerprint)
    w.write(b',"normalized":')
    _write_optional(w, facts.normalized)
    w.write(b',"tables":')
    tables = facts.tables
    if tables is None:
        w.write(_NULL)
        return w.getvalue()
    w.append(0x5B)
    first = True
    for schema, name in tables:
        w.write(b'{"schema":' if first else b',{"schema":')
        _write_optional(w, None if schema is None else schema.encode())
        w.write(b',"name":')
        write_string(w, name.encode())
        w.append(0x7D)
        first = False
    w.append(0x5D)
    return w.getvalue()


class Analyser:
    """Analyses statement texts, redacts messages and parameter values.

    `mode` is "secrets", "values" or "none", `key` makes masks comparable (see `audit.redact`). Counters:
    exact_hits and skeleton_hits of the caches; parses: calls of libpg_query; unparsed: new texts that are
    no SQL; too_long: skeletons that were not parsed for their length or nesting; tables_left_out.

    Raises ConfigError for an unknown mode. Nothing else here raises, whatever the bytes.
    """

    def __init__(self, mode: str, key: bytes | None = None, limits: AnalysisLimits | None = None) -> None:
        if mode != SECRETS and mode != VALUES and mode != NONE:
            raise ConfigError(f"redact must be secrets, values or none, not {mode!r}")
        self.exact_hits: i64 = 0
        self.skeleton_hits: i64 = 0
        self.parses: i64 = 0
        self.unparsed: i64 = 0
        self.too_long: i64 = 0
        self.tables_left_out: i64 = 0
        self.hides_values: bool = mode == VALUES
        self.keyed: bool = mode == VALUES and key is not None
        self._hides_nothing: bool = mode == NONE
        self._limits: AnalysisLimits = AnalysisLimits() if limits is None else limits
        self._redactor = Redactor(mode, key)
        self._shape_redactor = Redactor(SECRETS, None)
        self._conforming = _TextCache()
        self._nonconforming = _TextCache()
        self._young: dict[bytes, _Shape] = {}
        self._old: dict[bytes, _Shape] = {}
        self._shape_bytes: i64 = 0
        self._scan = Scan()

    def analyse(self, text: bytes, standard_conforming: bool) -> Analysis:
        """Analyse one statement. `standard_conforming`: the session's standard_conforming_strings."""
        cache = self._conforming if standard_conforming else self._nonconforming
        found = cache.young.get(text)
        if found is not None:
            self.exact_hits += 1
            return found
        found = cache.old.get(text)
        if found is not None:
            self.exact_hits += 1
        else:
            found = self._analyse(text, standard_conforming)
        if len(text) <= self._limits.cached_text:
            cache.size += 2 * len(text) + _OVERHEAD
            if len(cache.young) * 2 >= self._limits.texts or cache.size * 2 >= self._limits.text_bytes:
                cache.old = cache.young
                cache.young = {}
                cache.size = 2 * len(text) + _OVERHEAD
            cache.young[text] = found
        return found

    def replication_command(self, text: bytes) -> Analysis:
        """A command of the replication protocol (PostgreSQL manual, 54.4), which is no SQL.

        None has a secret. What looks as if it had is taken for SQL, or for what is neither.
        """
        if not self._hides_nothing and suspicious(text):
            return self.analyse(text, True)
        scan(text, True, self._scan)
        analysis = Analysis(text, False, self._shape(self._scan.skeleton))
        analysis.secret = False
        return analysis

    def redact_value(self, text: bytes, secret: bool) -> bytes | None:
        """A parameter's value redacted, None if it may be shown. `secret`: one of `secret_parameters`."""
        if self._hides_nothing or not (self.hides_values or secret or suspicious(text)):
            return None
        return self._redactor.value(text, secret)

    def redact_message(self, text: bytes, secret: bool) -> bytes:
        """A message of the server, redacted. `secret`: its statement has a secret, or is not parsed."""
        if self._hides_nothing or not (self.hides_values or secret or suspicious(text)):
            return text
        return self._redactor.message(text, secret)

    def redact_detail(self, text: bytes, secret: bool) -> bytes:
        """A DETAIL, HINT or CONTEXT of the server: of a statement with a secret, nothing is shown."""
        if secret and not self._hides_nothing:
            return MASK
        return self.redact_message(text, False)

    def _analyse(self, text: bytes, standard_conforming: bool) -> Analysis:
        found = self._scan
        scan(text, standard_conforming, found)
        flags: i64 = found.flags
        secret_words: i64 = found.secret_words
        shape = self._shape(found.skeleton)
        analysis: Analysis
        sql = text
        if self._hides_nothing or (
            not self.hides_values
            and (flags & (LONG_DIGITS | UNTERMINATED)) == 0
            and shape.harmless
            and shape.secret_words == found.secret_words
            and (shape.parsed or (shape.too_long and found.secret_words == 0))
        ):
            analysis = Analysis(text, False, shape)
        else:
            trusted = shape.parsed or (shape.too_long and found.secret_words == 0)
            redaction = self._redactor.statement(text, standard_conforming, trusted)
            sql = redaction.sql
            if sql != text:
                scan(sql, standard_conforming, found)
                skeleton = found.skeleton
                if (flags & UNTERMINATED) != 0 and (found.flags & UNTERMINATED) == 0:
                    skeleton += b" '"
                shape = self._shape(skeleton)
            shown: bytes = redaction.text
            analysis = Analysis(shown, shown != text, shape)
            analysis.secret = redaction.secret
            analysis.secret_parameters = redaction.parameters
            if (flags & HAS_COMMENT) != 0:
                scan(shown, standard_conforming, found)
        if (flags & HAS_COMMENT) != 0:
            self._tags(analysis, found)
        if not shape.parsed:
            self.unparsed += 1
        elif shape.literal_effects:
            effects = sqlfacts.read_effects(sql, standard_conforming, sqlfacts.MAX_SQL_BYTES)
            if effects is None:
                analysis.hides_effect = True
            else:
                analysis.set_effects(effects)
        elif shape.effect == PREPARE:
            self._prepared(analysis, text, standard_conforming)
        if shape.is_do and _DO_SETS.search(text) is not None:
            analysis.hides_effect = True
        # The names of these settings are among the words that are counted.
        if secret_words > 0 and not analysis.sets_quoting:
            analysis.sets_quoting = _QUOTING.search(text) is not None
        if shape.sets_by_literal and not analysis.sets_quoting:
            analysis.sets_quoting = (
                analysis.hides_effect or b"\\" in text or _QUOTING.search(text) is not None
            )
        return analysis

    def _prepared(self, analysis: Analysis, text: bytes, standard_conforming: bool) -> None:
        """Of PREPARE name (types) AS statement: analyse the statement."""
        flat = tokens(text, standard_conforming)
        depth: i64 = 0
        behind: i64 = 0  # tokens passed: PREPARE and the name, which may be anything, come first
        at: i64 = 0
        while at < len(flat):
            kind: i64 = flat[at]
            start: i64 = flat[at + 1]
            end: i64 = flat[at + 2]
            if kind == MARK and text[start] == 0x28:
                depth += 1
            elif kind == MARK and text[start] == 0x29:
                depth -= 1
            elif kind == IDENTIFIER and depth == 0 and behind >= 2 and is_word(text, start, end, b"as"):
                inner = self._analyse(text[end:].strip(b" \t\r\n\f\v;"), standard_conforming)
                analysis.inner = inner
                analysis.effect_argument = inner.text
                return
            if kind != COMMENT:
                behind += 1
            at += 3

    def _tags(self, analysis: Analysis, found: Scan) -> None:
        text = analysis.text
        tags = parse_tags(text, found.last_start, found.last_end)
        if len(tags) == 0:
            tags = parse_tags(text, found.first_start, found.first_end)
        if len(tags) == 0:
            return
        w = BytesWriter()
        separator = b"{"
        for key, value in tags.items():
            if not self._hides_nothing and suspicious(value):
                value = mask_cards(mask_conninfo(value))  # the percent encoding hid it
            w.write(separator)
            write_string(w, key)
            w.append(0x3A)
            write_string(w, value)
            separator = b","
        w.append(0x7D)
        analysis.comment_tags_json = w.getvalue()

    def _shape(self, skeleton: bytes) -> _Shape:
        found = self._young.get(skeleton)
        if found is not None:
            self.skeleton_hits += 1
            return found
        found = self._old.get(skeleton)
        if found is not None:
            self.skeleton_hits += 1
        else:
            found = self._new_shape(skeleton)
        limits = self._limits
        size: i64 = 4 * len(skeleton) + _OVERHEAD
        self._shape_bytes += size
        if len(self._young) * 2 >= limits.skeletons or self._shape_bytes * 2 >= limits.skeleton_bytes:
            self._old = self._young
            self._young = {}
            self._shape_bytes = size
        self._young[skeleton] = found
        return found

    def _new_shape(self, skeleton: bytes) -> _Shape:
        facts = sqlfacts.facts(skeleton, self._limits.sql)
        if facts.too_long:
            self.too_long += 1
        else:
            self.parses += 1
        self.tables_left_out += facts.tables_left_out
        redaction = self._shape_redactor.statement(skeleton, True, True)
        return _Shape(skeleton, facts, redaction)
