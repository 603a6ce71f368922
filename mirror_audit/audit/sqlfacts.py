"""What libpg_query tells of a statement: class, tables, fingerprint, normalised text, effect on the session.

It reads libpg_query's JSON parse tree (a protobuf decoder gives up at a hundred levels, JSON at some four
hundred). `facts` must be given skeletons (see `audit.scanner`), so
nothing in them can hold a value of the statement. Effects are what the text itself says: a function that
calls set_config, or sets a variable for itself, goes unseen.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from mirror_audit.audit import libpgquery
from mirror_audit.audit.lexer import NSTRING, STRING
from mirror_audit.audit.nesting import nesting
from mirror_audit.audit.parsetree import Node, Tables, class_of
from mirror_audit.audit.scanner import literal_spans

__all__ = [
    "BEGIN",
    "CLOSE",
    "CLOSE_ALL",
    "COMMIT",
    "COMMIT_AND_CHAIN",
    "COMMIT_PREPARED",
    "DEALLOCATE",
    "DEALLOCATE_ALL",
    "DECLARE_CURSOR",
    "DISCARD_ALL",
    "DISCARD_PLANS",
    "DISCARD_SEQUENCES",
    "DISCARD_TEMP",
    "EXECUTE",
    "FETCH",
    "MAX_NESTING",
    "MAX_SQL_BYTES",
    "MAX_TABLES",
    "NO_EFFECT",
    "PREPARE",
    "PREPARE_TRANSACTION",
    "RELEASE",
    "RESET_ALL",
    "ROLLBACK",
    "ROLLBACK_AND_CHAIN",
    "ROLLBACK_PREPARED",
    "ROLLBACK_TO",
    "SAVEPOINT",
    "SET_LOCAL_ROLE",
    "SET_LOCAL_SEARCH_PATH",
    "SET_LOCAL_SESSION_AUTHORIZATION",
    "SET_ROLE",
    "SET_SEARCH_PATH",
    "SET_SESSION_AUTHORIZATION",
    "SET_UNKNOWN",
    "Effect",
    "Facts",
    "effects",
    "facts",
    "mask_normalized",
    "read_effects",
]

MAX_SQL_BYTES: Final = 32 * 1024  # libpg_query's normaliser is quadratic in the length of a target list
MAX_NESTING: Final = 400
MAX_TABLES: Final = 64

_PLANNABLE: Final = {"SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"}

# Codes, with what their name and argument hold.
NO_EFFECT: Final = 0
SET_ROLE: Final = 1  # name: the role, None for NONE, DEFAULT and RESET
SET_LOCAL_ROLE: Final = 2
SET_SESSION_AUTHORIZATION: Final = 3  # name: the role, None for DEFAULT and RESET
SET_LOCAL_SESSION_AUTHORIZATION: Final = 4
SET_SEARCH_PATH: Final = 5  # argument: the setting as SHOW would print it, None for DEFAULT and RESET
SET_LOCAL_SEARCH_PATH: Final = 6
SET_UNKNOWN: Final = 7  # name: role, session_authorization or search_path; None for any of them
RESET_ALL: Final = 8
DISCARD_ALL: Final = 9
DISCARD_PLANS: Final = 10
DISCARD_SEQUENCES: Final = 11
DISCARD_TEMP: Final = 12
PREPARE: Final = 13  # name; argument: the statement behind AS
EXECUTE: Final = 14  # name
DEALLOCATE: Final = 15  # name
DEALLOCATE_ALL: Final = 16
BEGIN: Final = 17
COMMIT: Final = 18
COMMIT_AND_CHAIN: Final = 19
ROLLBACK: Final = 20
ROLLBACK_AND_CHAIN: Final = 21
PREPARE_TRANSACTION: Final = 22
COMMIT_PREPARED: Final = 23
ROLLBACK_PREPARED: Final = 24
SAVEPOINT: Final = 25  # name
RELEASE: Final = 26  # name
ROLLBACK_TO: Final = 27  # name
DECLARE_CURSOR: Final = 28  # name
FETCH: Final = 29  # name; MOVE as well
CLOSE: Final = 30  # name
CLOSE_ALL: Final = 31


@dataclass(frozen=True, slots=True)
class Effect:
    """One change of the session's state.

    SET_UNKNOWN with `parameter` n is set_config with the value in $n; its argument is b"local" or
    b"session".
    """

    code: int
    name: bytes | None = None
    argument: bytes | None = None
    parameter: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that follows from a skeleton alone.

    `literal_effects` is true if the effects hang on literals, which a skeleton does not have: then ask
    `effects` for the text itself. `tables_left_out` counts tables beyond MAX_TABLES. `too_long` means that
    libpg_query was not asked, for the length of the text or its nesting. `hides_effect`: it may change role
    or search_path in a way that no effect tells.
    """

    parsed: bool
    too_long: bool = False
    statement_class: bytes | None = None
    fingerprint: bytes | None = None
    normalized: bytes = b""
    tables: tuple[tuple[str | None, str], ...] | None = None
    tables_left_out: int = 0
    effects: tuple[Effect, ...] = ()
    literal_effects: bool = False
    hides_effect: bool = False


def facts(skeleton: bytes, max_bytes: int = MAX_SQL_BYTES) -> Facts:
    """The facts of one statement. Never raises."""
    if len(skeleton) > max_bytes or nesting(skeleton) > MAX_NESTING:
        shown = mask_normalized(skeleton[:max_bytes])
        return Facts(parsed=False, too_long=True, normalized=shown, hides_effect=_may_set(skeleton))
    statements = _parse(skeleton)
    if statements is None:
        # An unterminated text has a skeleton with a lone quote at its end.
        shown = mask_normalized(skeleton.removesuffix(b" '"))
        return Facts(parsed=False, normalized=shown, hides_effect=_may_set(skeleton))
    sql = skeleton.decode("utf-8", "replace").encode()
    fingerprint = libpgquery.fingerprint(sql)
    # Of other statements libpg_query misplaces some literals and leaves the rest.
    normalized = libpgquery.normalize(sql) if _all_plannable(statements) else skeleton
    if fingerprint is None or normalized is None:
        return Facts(parsed=False, normalized=mask_normalized(skeleton), hides_effect=_may_set(skeleton))
    found = Tables()
    for statement in statements:
        found.walk(statement)
    names = found.names()
    of_skeleton = _effects_of(statements)
    statement_class = class_of(statements[0], found.modifies) if statements else None
    return Facts(
        parsed=True,
        statement_class=statement_class,
        fingerprint=fingerprint,
        normalized=mask_normalized(normalized),
        tables=names[:MAX_TABLES],
        tables_left_out=max(len(names) - MAX_TABLES, 0),
        effects=of_skeleton,
        literal_effects=bool(literal_spans(skeleton, True))
        and (
            any(effect.code <= SET_UNKNOWN for effect in of_skeleton) or bool(_set_config_calls(statements))
        ),
        hides_effect=_hides_effect(skeleton, statements, statement_class, of_skeleton),
    )


def effects(text: bytes, standard_conforming: bool, max_bytes: int = MAX_SQL_BYTES) -> tuple[Effect, ...]:
    """The effects of one statement, with what its literals say; () if it cannot be parsed. Never raises."""
    return read_effects(text, standard_conforming, max_bytes) or ()


def read_effects(text: bytes, standard_conforming: bool, max_bytes: int) -> tuple[Effect, ...] | None:
    """As `effects`, but None if the text cannot be parsed, or is too long for it."""
    if not standard_conforming:
        text = _conforming(text)
    if len(text) > max_bytes or nesting(text) > MAX_NESTING:
        return None
    statements = _parse(text)
    return None if statements is None else _effects_of(statements)


# What an escape spells in a name is not looked at: any U&"x" may be set_config.
_SETTER: Final = re.compile(rb"set_config|u&\"", re.IGNORECASE)
_SETTINGS_VIEW: Final = re.compile(rb"pg_settings|u&\"", re.IGNORECASE)
_SET_COMMAND: Final = re.compile(rb"(?:set|reset|discard|explain|do)\b", re.IGNORECASE)


def _may_set(skeleton: bytes) -> bool:
    """Whether what cannot be parsed may change a setting."""
    found = _SET_COMMAND.match(skeleton) or _SETTER.search(skeleton) or _SETTINGS_VIEW.search(skeleton)
    return found is not None


def _hides_effect(
    skeleton: bytes, statements: list[Node], statement_class: bytes | None, told: tuple[Effect, ...]
) -> bool:
    # If there are literals, the name may be one: then the text's own effects tell.
    unnamed = any(effect.code == SET_UNKNOWN and effect.name is None for effect in told)
    if unnamed and not literal_spans(skeleton, True):
        return True
    if _SETTINGS_VIEW.search(skeleton) and statement_class != b"READ":
        return True
    if not _SETTER.search(skeleton):
        return False
    # A SELECT has its effects told, one that PREPARE names when it is executed.
    return len(statements) != 1 or next(iter(statements[0])) not in ("SelectStmt", "PrepareStmt")


def _conforming(text: bytes) -> bytes:
    """`text` with its plain literals as E'...', which is how a server reads them that does not conform."""
    parts: list[bytes] = []
    done = 0
    for start, _, kind in literal_spans(text, False):
        if kind in (STRING, NSTRING):
            parts += (text[done:start], b" E")
            done = start + (kind == NSTRING)
    return b"".join((*parts, text[done:]))


def mask_normalized(text: bytes) -> bytes:
    """`text` with a question mark for each literal that is left in it."""
    parts: list[bytes] = []
    done = 0
    for start, end, _ in literal_spans(text, True):
        parts += (text[done:start], b"?")
        done = end
    return b"".join((*parts, text[done:]))


def _all_plannable(statements: list[Node]) -> bool:
    return all(kind in _PLANNABLE for statement in statements for kind in statement)


def _parse(text: bytes) -> list[Node] | None:
    """The statements of `text`, each {"SelectStmt": {...}} or the like; None if it is not SQL."""
    if b"\0" in text:
        return None
    # libpg_query does not check the encoding, but cuts long identifiers by it.
    parsed = libpgquery.parse_json(text.decode("utf-8", "replace").encode())
    if parsed is None:
        return None
    try:
        tree = json.loads(parsed.decode("utf-8", "replace"))
    except (RecursionError, ValueError):
        return None
    return [raw["stmt"] for raw in tree["stmts"] if raw.get("stmt")]


_TRANSACTION: Final = {
    "TRANS_STMT_BEGIN": (BEGIN, BEGIN),
    "TRANS_STMT_START": (BEGIN, BEGIN),
    "TRANS_STMT_COMMIT": (COMMIT, COMMIT_AND_CHAIN),
    "TRANS_STMT_ROLLBACK": (ROLLBACK, ROLLBACK_AND_CHAIN),
    "TRANS_STMT_SAVEPOINT": (SAVEPOINT, SAVEPOINT),
    "TRANS_STMT_RELEASE": (RELEASE, RELEASE),
    "TRANS_STMT_ROLLBACK_TO": (ROLLBACK_TO, ROLLBACK_TO),
    "TRANS_STMT_PREPARE": (PREPARE_TRANSACTION, PREPARE_TRANSACTION),
    "TRANS_STMT_COMMIT_PREPARED": (COMMIT_PREPARED, COMMIT_PREPARED),
    "TRANS_STMT_ROLLBACK_PREPARED": (ROLLBACK_PREPARED, ROLLBACK_PREPARED),
}
_DISCARD: Final = {
    "DISCARD_ALL": DISCARD_ALL,
    "DISCARD_PLANS": DISCARD_PLANS,
    "DISCARD_SEQUENCES": DISCARD_SEQUENCES,
    "DISCARD_TEMP": DISCARD_TEMP,
}
_SETTINGS: Final = {
    "role": (SET_ROLE, SET_LOCAL_ROLE),
    "session_authorization": (SET_SESSION_AUTHORIZATION, SET_LOCAL_SESSION_AUTHORIZATION),
    "search_path": (SET_SEARCH_PATH, SET_LOCAL_SEARCH_PATH),
}
_PLAIN_IDENTIFIER: Final = re.compile(r"[a-z_][a-z0-9_$]*\Z")


def _effects_of(statements: list[Node]) -> tuple[Effect, ...]:
    """The effects of a parse tree; () if it has not just one statement."""
    if len(statements) != 1:
        return ()
    ((kind, body),) = statements[0].items()
    if kind == "SelectStmt":
        found = [_set_config(call) for call in _set_config_calls(body) if _sets_what(call) is not None]
        # Whoever looks at the first only should learn of the role.
        return tuple(sorted(found, key=lambda e: e.code in (SET_SEARCH_PATH, SET_LOCAL_SEARCH_PATH)))
    effect = _effect(kind, body)
    return () if effect is None else (effect,)


def _effect(kind: str, body: Node) -> Effect | None:
    if kind == "VariableSetStmt":
        return _variable_set(body)
    if kind == "TransactionStmt":
        code = _TRANSACTION[body["kind"]][1 if body.get("chain") else 0]
        return Effect(code, _encode(body.get("savepoint_name")))
    if kind == "DiscardStmt":
        return Effect(_DISCARD[body["target"]])
    if kind == "PrepareStmt":
        return Effect(PREPARE, _encode(body["name"]))
    if kind == "ExecuteStmt":
        return Effect(EXECUTE, _encode(body["name"]))
    if kind == "DeallocateStmt":
        return Effect(DEALLOCATE_ALL) if body.get("isall") else Effect(DEALLOCATE, _encode(body["name"]))
    if kind == "DeclareCursorStmt":
        return Effect(DECLARE_CURSOR, _encode(body["portalname"]))
    if kind == "FetchStmt":
        return Effect(FETCH, _encode(body["portalname"]))
    if kind == "ClosePortalStmt":
        return Effect(CLOSE, _encode(body["portalname"])) if "portalname" in body else Effect(CLOSE_ALL)
    return None


def _variable_set(body: Node) -> Effect | None:
    if body["kind"] == "VAR_RESET_ALL":
        return Effect(RESET_ALL)
    # Names of settings are case-insensitive; the grammar folds only those without quotes.
    setting = body.get("name", "").lower()
    if setting not in _SETTINGS or body["kind"] == "VAR_SET_MULTI":
        return None
    values = [_constant(arg) or "" for arg in body.get("args", ())] if body["kind"] == "VAR_SET_VALUE" else []
    value = ", ".join(map(_quoted, values)) if setting == "search_path" else ", ".join(values)
    return _setting(setting, value if values else None, bool(body.get("is_local")))


def _setting(setting: str, value: str | None, local: bool) -> Effect:
    code = _SETTINGS[setting][1 if local else 0]
    if setting == "search_path":
        return Effect(code, None, _encode(value))
    return Effect(code, None if setting == "role" and value == "none" else _encode(value))


def _set_config_calls(tree: Node | list[Node]) -> list[list[Any]]:
    """The three arguments of each call of set_config in a parse tree, in their order."""
    found: list[list[Any]] = []
    todo: list[Any] = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, list):
            todo += reversed(node)
            continue
        for key, value in node.items():
            if isinstance(value, dict | list):
                todo.append(value)
            if key == "FuncCall" and value["funcname"][-1]["String"]["sval"] == "set_config":
                found.append(_positional(value.get("args", [])))
    return found


def _positional(args: list[Any]) -> list[Any]:
    names = ("setting_name", "new_value", "is_local")
    placed: list[Any] = [None, None, None]
    for i, arg in enumerate(args[:3]):
        named = arg.get("NamedArgExpr")
        if named is None:
            placed[i] = arg
        elif named["name"] in names:
            placed[names.index(named["name"])] = named["arg"]
    return placed


def _sets_what(args: list[Any]) -> str | None:
    """The setting, "" if it is not a constant, None if it is one that does not matter here."""
    name = _constant(args[0])
    if name is None:
        return ""
    return name.lower() if name.lower() in _SETTINGS else None


def _set_config(args: list[Any]) -> Effect:
    setting = _sets_what(args)
    local = _boolean(args[2])
    if not setting or local is None:
        return Effect(SET_UNKNOWN, _encode(setting) or None)
    value = _uncast(args[1])
    if "ParamRef" in value:
        scope = b"local" if local else b"session"
        return Effect(SET_UNKNOWN, _encode(setting), scope, value["ParamRef"].get("number", 0))
    constant = _constant(value)
    if constant is None and not value.get("A_Const", {}).get("isnull"):
        return Effect(SET_UNKNOWN, _encode(setting))
    return _setting(setting, constant, local)


def _uncast(node: Any) -> Node:
    while node and "TypeCast" in node:
        node = node["TypeCast"]["arg"]
    return node or {}


def _constant(node: Any) -> str | None:
    """What a literal says, as text; None for anything else, and for NULL."""
    value = _uncast(node).get("A_Const")
    if value is None or value.get("isnull"):
        return None
    if "ival" in value:
        return str(value["ival"].get("ival", 0))
    if "boolval" in value:
        return "true" if value["boolval"].get("boolval") else "false"
    for kind, field in (("sval", "sval"), ("fval", "fval"), ("bsval", "bsval")):
        if kind in value:
            return str(value[kind].get(field, ""))
    return None


def _boolean(node: Any) -> bool | None:
    word = (_constant(node) or "").strip().lower()
    if word and ("true".startswith(word) or "yes".startswith(word) or word in ("on", "1")):
        return True
    if word and ("false".startswith(word) or "no".startswith(word) or word in ("of", "off", "0")):
        return False
    return None


def _quoted(name: str) -> str:
    return name if _PLAIN_IDENTIFIER.match(name) else '"' + name.replace('"', '""') + '"'


def _encode(value: str | None) -> bytes | None:
    return None if value is None else value.encode()
