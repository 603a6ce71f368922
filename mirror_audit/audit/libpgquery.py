"""libpg_query, PostgreSQL's own parser as a library: parse tree, fingerprint, normalised text.

The library comes in the package postgast, whose module `native` declares its functions. Only that module is
loaded, from its file: the package's own `__init__` would load protobuf classes for the whole parse tree,
which nothing here uses and which take longer than a small replay does. Its stubs are no valid Python either
(0.2.0), and would stop mypyc if it followed an import statement to them.
"""

import importlib.util
from pathlib import Path
from typing import Any

__all__ = ["fingerprint", "normalize", "parse_json"]


def _load() -> Any:
    package = importlib.util.find_spec("postgast")
    if package is None or package.origin is None:
        raise ImportError("postgast is not installed, though mirror_audit depends on it: install it again")
    path = Path(package.origin).with_name("native.py")
    spec = importlib.util.spec_from_file_location("mirror_audit_libpg_query", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.lib


_lib: Any = _load()


def parse_json(sql: bytes) -> bytes | None:
    """The parse tree of `sql` (UTF-8, no zero byte) as JSON; None if it is not SQL."""
    result = _lib.pg_query_parse(sql)
    try:
        return None if result.error else bytes(result.parse_tree)
    finally:
        _lib.pg_query_free_parse_result(result)


def fingerprint(sql: bytes) -> bytes | None:
    """Sixteen hex digits, equal for texts whose parse trees differ in constants only; None: not SQL."""
    result = _lib.pg_query_fingerprint(sql)
    try:
        return None if result.error else bytes(result.fingerprint_str)
    finally:
        _lib.pg_query_free_fingerprint_result(result)


def normalize(sql: bytes) -> bytes | None:
    """`sql` with $1, $2, ... in the place of constants; None if it is not SQL."""
    result = _lib.pg_query_normalize(sql)
    try:
        return None if result.error else bytes(result.normalized_query)
    finally:
        _lib.pg_query_free_normalize_result(result)
