"""The object ids of PostgreSQL's built-in types, and how arrays and ranges refer to others.

Built-in ids never change between versions (`src/include/catalog/pg_type.dat`); those of PostgreSQL 18 are a
superset of 11's, except for a few that vanished. Ids from 16384 up belong to one database's own types and
extensions: what they mean cannot be known from the wire.
"""

from typing import Final

from mypy_extensions import i64

__all__ = ["ARRAY_ELEMENT", "MULTIRANGE_RANGE", "RANGE_BOUND", "SCALAR_NAMES", "type_name"]

BOOL: Final = 16
BYTEA: Final = 17
CHAR: Final = 18
NAME: Final = 19
INT8: Final = 20
INT2: Final = 21
INT2VECTOR: Final = 22
INT4: Final = 23
TEXT: Final = 25
OID: Final = 26
TID: Final = 27
OIDVECTOR: Final = 30
JSON: Final = 114
XML: Final = 142
POINT: Final = 600
LSEG: Final = 601
PATH: Final = 602
BOX: Final = 603
POLYGON: Final = 604
LINE: Final = 628
CIDR: Final = 650
FLOAT4: Final = 700
FLOAT8: Final = 701
UNKNOWN: Final = 705
CIRCLE: Final = 718
MACADDR8: Final = 774
MACADDR: Final = 829
INET: Final = 869
BPCHAR: Final = 1042
VARCHAR: Final = 1043
DATE: Final = 1082
TIME: Final = 1083
TIMESTAMP: Final = 1114
TIMESTAMPTZ: Final = 1184
INTERVAL: Final = 1186
TIMETZ: Final = 1266
BIT: Final = 1560
VARBIT: Final = 1562
NUMERIC: Final = 1700
REFCURSOR: Final = 1790
CSTRING: Final = 2275
VOID: Final = 2278
UUID: Final = 2950
PG_LSN: Final = 3220
JSONB: Final = 3802
JSONPATH: Final = 4072
XID8: Final = 5069

ARRAY_ELEMENT: Final[dict[int, int]] = {
    143: 142, 199: 114, 271: 5069, 629: 628, 651: 650, 719: 718, 775: 774, 791: 790, 1000: 16, 1001: 17,
    1002: 18, 1003: 19, 1005: 21, 1006: 22, 1007: 23, 1008: 24, 1009: 25, 1010: 27, 1011: 28, 1012: 29,
    1013: 30, 1014: 1042, 1015: 1043, 1016: 20, 1017: 600, 1018: 601, 1019: 602, 1020: 603, 1021: 700,
    1022: 701, 1027: 604, 1028: 26, 1034: 1033, 1040: 829, 1041: 869, 1115: 1114, 1182: 1082, 1183: 1083,
    1185: 1184, 1187: 1186, 1231: 1700, 1263: 2275, 1270: 1266, 1561: 1560, 1563: 1562, 2201: 1790,
    2207: 2202, 2208: 2203, 2209: 2204, 2210: 2205, 2211: 2206, 2287: 2249, 2949: 2970, 2951: 2950,
    3221: 3220, 3643: 3614, 3644: 3642, 3645: 3615, 3735: 3734, 3770: 3769, 3807: 3802, 3905: 3904,
    3907: 3906, 3909: 3908, 3911: 3910, 3913: 3912, 3927: 3926, 4073: 4072, 4090: 4089, 4097: 4096,
    4192: 4191, 5039: 5038, 6150: 4451, 6151: 4532, 6152: 4533, 6153: 4534, 6155: 4535, 6157: 4536,
}  # fmt: skip
"""Array type -> type of its elements."""

RANGE_BOUND: Final[dict[int, int]] = {3904: 23, 3906: 1700, 3908: 1114, 3910: 1184, 3912: 1082, 3926: 20}
"""Range type -> type of its bounds."""

MULTIRANGE_RANGE: Final[dict[int, int]] = {
    4451: 3904,
    4532: 3906,
    4533: 3908,
    4534: 3910,
    4535: 3912,
    4536: 3926,
}
"""Multirange type -> range type."""

SCALAR_NAMES: Final[dict[int, str]] = {
    16: "bool", 17: "bytea", 18: "char", 19: "name", 20: "int8", 21: "int2", 22: "int2vector", 23: "int4",
    24: "regproc", 25: "text", 26: "oid", 27: "tid", 28: "xid", 29: "cid", 30: "oidvector", 114: "json",
    142: "xml", 194: "pg_node_tree", 600: "point", 601: "lseg", 602: "path", 603: "box", 604: "polygon",
    628: "line", 650: "cidr", 700: "float4", 701: "float8", 705: "unknown", 718: "circle", 774: "macaddr8",
    790: "money", 829: "macaddr", 869: "inet", 1033: "aclitem", 1042: "bpchar", 1043: "varchar",
    1082: "date", 1083: "time", 1114: "timestamp", 1184: "timestamptz", 1186: "interval", 1266: "timetz",
    1560: "bit", 1562: "varbit", 1700: "numeric", 1790: "refcursor", 2202: "regprocedure", 2203: "regoper",
    2204: "regoperator", 2205: "regclass", 2206: "regtype", 2249: "record", 2275: "cstring", 2278: "void",
    2950: "uuid", 2970: "txid_snapshot", 3220: "pg_lsn", 3361: "pg_ndistinct", 3402: "pg_dependencies",
    3614: "tsvector", 3615: "tsquery", 3642: "gtsvector", 3734: "regconfig", 3769: "regdictionary",
    3802: "jsonb", 3904: "int4range", 3906: "numrange", 3908: "tsrange", 3910: "tstzrange",
    3912: "daterange", 3926: "int8range", 4072: "jsonpath", 4089: "regnamespace", 4096: "regrole",
    4191: "regcollation", 4451: "int4multirange", 4532: "nummultirange", 4533: "tsmultirange",
    4534: "tstzmultirange", 4535: "datemultirange", 4536: "int8multirange",
    4600: "pg_brin_bloom_summary", 4601: "pg_brin_minmax_multi_summary", 5017: "pg_mcv_list",
    5038: "pg_snapshot", 5069: "xid8",
}  # fmt: skip
"""Type -> `pg_type.typname`, for all built-in types that are not arrays and that a value can have."""


def type_name(oid: i64) -> str | None:
    """The name of a built-in type: its `typname` ("int4"), an array's with brackets ("int4[]").

    None for ids that are not built in (the database's own types and extensions) and for 0 (not given).
    """
    key: int = oid
    name = SCALAR_NAMES.get(key)
    if name is not None:
        return name
    element = ARRAY_ELEMENT.get(key)
    if element is None:
        return None
    return SCALAR_NAMES[element] + "[]"
