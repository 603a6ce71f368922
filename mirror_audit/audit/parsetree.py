"""What a parse tree tells: the tables, and the class of a statement.

The tree is libpg_query's JSON: nested dicts and lists, a node wrapped as {"SelectStmt": {...}} where its
type is not fixed. The fields are PostgreSQL's (src/include/nodes/parsenodes.h; libpg_query's
protobuf/pg_query.proto).
"""

from typing import Any, Final

__all__ = ["Node", "Tables", "class_of"]

Node = dict[str, Any]


_Todo = list[tuple[Any, frozenset[str]]]  # nodes still to visit, with the names of CTEs there


class Tables:
    """Collects the tables of parse trees, and whether any statement in them modifies data."""

    def __init__(self) -> None:
        self.modifies = False
        self._found: list[tuple[int, str | None, str]] = []

    def names(self) -> tuple[tuple[str | None, str], ...]:
        """(schema, name) of each table once, in the order of the text."""
        ordered = sorted(self._found, key=lambda found: found[0])
        return tuple(dict.fromkeys((schema, name) for _, schema, name in ordered))

    def walk(self, statement: Node) -> None:
        """Add what is in the tree of one statement."""
        todo: _Todo = [(statement, frozenset())]
        while todo:
            node, ctes = todo.pop()
            if isinstance(node, list):
                todo += ((item, ctes) for item in reversed(node))
                continue
            outside = _NOT_A_TABLE if _object_type(node) in _NO_TABLES else _NO_TABLE_KEYS
            if "withClause" in node:
                ctes = self._with(node["withClause"], ctes, todo)
            for key, value in node.items():
                if not isinstance(value, dict | list) or key in outside or key == "withClause":
                    continue
                if isinstance(value, dict) and "relname" in value:
                    # Only a reference can mean a CTE; a target, which is not wrapped, never does.
                    if key != "RangeVar" or "schemaname" in value or value["relname"] not in ctes:
                        self._relation(value)
                else:
                    self.modifies = self.modifies or key in _MODIFYING
                    if isinstance(value, dict) and key in ("DropStmt", "CommentStmt", "SecLabelStmt"):
                        self._named(value)
                    todo.append((value, ctes))

    def _with(self, clause: Node, ctes: frozenset[str], todo: _Todo) -> frozenset[str]:
        inner = [cte["CommonTableExpr"] for cte in clause["ctes"]]
        everything = ctes.union(cte["ctename"] for cte in inner)
        for cte in inner:
            todo.append(({"cte": cte["ctequery"]}, everything if clause.get("recursive") else ctes))
            ctes = ctes.union((cte["ctename"],))
        return everything

    def _relation(self, node: Node) -> None:
        self._found.append((node.get("location", 0), node.get("schemaname"), node["relname"]))

    def _named(self, node: Node) -> None:
        """Tables of DROP, COMMENT and SECURITY LABEL, which are lists of names there."""
        kind = node.get("removeType") or node.get("objtype")
        if kind not in _TABLES and kind not in _ON_A_TABLE:
            return
        for item in node.get("objects") or [node.get("object", {})]:
            parts = item.get("List", {}).get("items", ())
            names = [part["String"]["sval"] for part in parts if "String" in part]
            if kind in _ON_A_TABLE:
                names = names[:-1]
            if names:
                self._found.append((0, names[-2] if len(names) > 1 else None, names[-1]))


_TABLES: Final = {"OBJECT_TABLE", "OBJECT_VIEW", "OBJECT_MATVIEW", "OBJECT_FOREIGN_TABLE"}
_ON_A_TABLE: Final = {
    "OBJECT_COLUMN",
    "OBJECT_TRIGGER",
    "OBJECT_RULE",
    "OBJECT_POLICY",
    "OBJECT_TABCONSTRAINT",
}
_NO_TABLES: Final = {
    "OBJECT_INDEX",
    "OBJECT_SEQUENCE",
    "OBJECT_TYPE",
    "OBJECT_ATTRIBUTE",
    "REINDEX_OBJECT_INDEX",
}
_NO_TABLE_KEYS: Final = {"sequence", "typevar", "lockedRels"}
_NOT_A_TABLE: Final = _NO_TABLE_KEYS | {"relation", "objects"}
_MODIFYING: Final = {"InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"}


def _object_type(node: Node) -> object:
    kind = node.get("objtype") or node.get("renameType") or node.get("objectType") or node.get("kind")
    return kind if isinstance(kind, str) else None


_CLASSES: Final = {
    **dict.fromkeys(("SelectStmt", "CopyStmt", "DeclareCursorStmt", "PrepareStmt"), b"READ"),
    **dict.fromkeys((*_MODIFYING, "TruncateStmt"), b"WRITE"),
    "DoStmt": b"FUNCTION",
    **dict.fromkeys(
        (
            "AlterDefaultPrivilegesStmt",
            "AlterRoleSetStmt",
            "AlterRoleStmt",
            "AlterUserMappingStmt",
            "CreateRoleStmt",
            "CreateUserMappingStmt",
            "DropRoleStmt",
            "GrantRoleStmt",
            "GrantStmt",
        ),
        b"ROLE",
    ),
    **dict.fromkeys(
        (
            "CallStmt",
            "CheckPointStmt",
            "ClosePortalStmt",
            "ConstraintsSetStmt",
            "DeallocateStmt",
            "DiscardStmt",
            "ExecuteStmt",
            "ExplainStmt",
            "FetchStmt",
            "ListenStmt",
            "LoadStmt",
            "LockStmt",
            "NotifyStmt",
            "ReindexStmt",
            "TransactionStmt",
            "UnlistenStmt",
            "VacuumStmt",
            "VariableSetStmt",
            "VariableShowStmt",
        ),
        b"MISC",
    ),
}


def class_of(statement: Node, modifies: bool) -> bytes:
    """The class that pgaudit gives to one statement. `modifies`: a statement in its tree modifies data.

    READ, WRITE, DDL, ROLE, FUNCTION or MISC (pgaudit README, "pgaudit.log"; log_audit_event in pgaudit.c
    and GetCommandLogLevel in PostgreSQL's tcop/utility.c). Where pgaudit logs parts of one statement in
    several classes, as for a CTE with INSERT or COPY (INSERT ...) TO, this is the one of the part that
    modifies.
    """
    ((kind, body),) = statement.items()
    if kind == "ExplainStmt":
        options = [option["DefElem"].get("defname") for option in body.get("options", ())]
        if "analyze" in options:
            inner = class_of(body["query"], modifies)
            return inner if inner in (b"WRITE", b"DDL") else b"MISC"
        return b"MISC"
    if kind == "RenameStmt" and body.get("renameType") == "OBJECT_ROLE":
        return b"ROLE"
    if kind == "SelectStmt" and _selects_into(body):
        return b"DDL"
    found = _CLASSES.get(kind, b"DDL")
    if found == b"READ" and (modifies or body.get("is_from")):
        return b"WRITE"
    return found


def _selects_into(select: Node) -> bool:
    # In a set operation, INTO belongs to the leftmost SELECT.
    while "larg" in select and "intoClause" not in select:
        select = select["larg"]
    return "intoClause" in select
