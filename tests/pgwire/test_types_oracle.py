"""The decoder of bind values against a real PostgreSQL: what it sends, and what it makes of what it gets."""

import random
from collections.abc import Iterator

import psycopg
import pytest

from mirror_audit.pgwire.type_oids import ARRAY_ELEMENT, MULTIRANGE_RANGE, RANGE_BOUND, SCALAR_NAMES
from mirror_audit.pgwire.type_ranges import MAX_BOUND_DIGITS
from mirror_audit.pgwire.types import decode_binary, type_name
from tests.require import require
from tests.support.postgres import Flavour, running, unavailable

pytestmark = pytest.mark.live

LITERALS = {
    "bool": "t f",
    "int2": "0 1 -1 32767 -32768",
    "int4": "0 1 -1 2147483647 -2147483648",
    "int8": "0 1 -1 9223372036854775807 -9223372036854775808",
    "oid": "0 1 4294967295",
    "xid": "0 4294967295",
    "cid": "0 4294967295",
    "xid8": "0 9223372036854775807 9223372036854775808 18446744073709551615",
    "float4": "0 -0 1 0.1 1e20 1e-5 0.0001 123456 1234567 3.4028235e38 1e-45 NaN Infinity -Infinity"
    " 16777216 33554432 8388608 0.3 -1.5e-40",
    "float8": "0 -0 1 0.1 1e20 1e15 123456789012345 1e-5 0.0001 1e23 9e22 5e-324 2.2250738585072014e-308"
    " 1.7976931348623157e308 NaN Infinity -Infinity 9007199254740993 -1.5e-7 1e16 4.35 100 1e14",
    "numeric": "0 0.00 1 -1 10 10000 100000000 0.0001 0.00001 -0.5 12345678901234567890.123456789 1e100"
    " 1e-100 NaN Infinity -Infinity 1.50 -0.00 99999999 1e16000 1e-16000 1234.0000",
    "uuid": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11 00000000-0000-0000-0000-000000000000",
    "inet": "1.2.3.4 1.2.3.4/24 0.0.0.0/0 255.255.255.255 ::1 :: ::/0 ::5 ::1:2 ::1.2.3.4 ::ffff:1.2.3.4 1::"
    " 1:0:0:2:3:0:0:4 0:1:: 1:2:3:4:5:6:7:8 2001:db8::1/64 ::ffff:0:0 0:0:0:0:0:1:: 1:0:2:3:4:5:6:7 a::b:0:0"
    " 0:0:1:0:0:0:ffff:0 ::1:0:0 ::ffff:0:1:2",
    "cidr": "1.2.3.4 1.2.3.0/24 0.0.0.0/0 ::/0 1:0:0:2::/64 ::1 ::ffff:1.2.0.0/112",
    "macaddr": "08:00:2b:01:02:03",
    "macaddr8": "08:00:2b:01:02:03:04:05 08:00:2b:01:02:03",
    "bit": "0 1",
    "bit(3)": "101",
    "varbit": "1 1011 0110011001 11111111 000000000",
    "point": "(1,2) (-0,NaN) (1e300,1e-300)",
    "lseg": "[(1,2),(3,4)]",
    "box": "(1,2),(3,4) (1,4),(3,2) (NaN,1),(2,Infinity)",
    "line": "{1,2,3} {0,-1.5,1e20}",
    "circle": "<(1,2),3>",
    "path": "[(1,2),(3,4)] ((1,2),(3,4)) ((0.1,0.2))",
    "polygon": "((1,2),(3,4)) ((1,1))",
    "pg_lsn": "0/0 16/B374D848 FFFFFFFF/FFFFFFFF",
    "tid": "(1,2) (4294967295,65535)",
    "date": "2000-01-01 1999-12-31 1970-01-01 infinity -infinity 4714-11-24BC 0001-12-31BC 0001-01-01"
    " 5874897-12-31 2000-02-29 1900-02-28 2100-03-01 10000-01-01 0044-03-15BC 9999-12-31",
    "time": "00:00 24:00 23:59:59.999999 12:34:56.7 00:00:00.000001 01:02:03.000450",
    "timetz": "00:00+00 24:00+15:59 24:00-15:59:59 12:34:56.7-08 00:00+05:30 01:02+00:00:01 01:02-00:30",
    "int2vector": "1",
    "oidvector": "1",
}
SPACED = {
    "timestamp": [
        "2000-01-01",
        "1999-12-31 23:59:59.999999",
        "infinity",
        "-infinity",
        "4714-11-24 00:00 BC",
        "0001-12-31 1:2:3.4 BC",
        "294276-12-31 23:59:59.999999",
        "10000-01-01 00:00",
        "2026-11-23 05:54:29.12345",
        "1970-01-01 00:00:00.000001",
    ],
    "interval": [
        "0",
        "1 year",
        "-1 year",
        "1 mon",
        "1 day",
        "-1 days +1 mon",
        "1 year -1 day 1 second",
        "-1 year 1 day 1:00",
        "-1 mon 0:00:01",
        "1 mon -0:00:01",
        "-0:00:00.5",
        "100 hours",
        "178956970 years 7 mons",
        "-178956970 years -8 mons",
        "2147483647 days",
        "-25 hours",
        "1 year 2 mons 3 days 04:05:06.789",
        "-13 mons -1 day -00:00:00.000001",
        "-1 mon 2 days -3 hours",
        "2562047788:00:54.775807",
    ],
    "text": ["", "a b", "NULL", "é\u4e2d", "a\\b\"c'"],
    "varchar": ["x", " "],
    "name": ["x", "a" * 63],
    "char(5)": ["ab"],
    '"char"': ["a", "", "\\200", "\\377", "\\", '"'],
    "json": ['{"a": 1}', "[ 1 ]"],
    "jsonb": ['{"a": 1}', "[]", "null"],
    "jsonpath": ["$.a", 'strict $."x y"[*] ? (@ > 1)'],
    "bytea": ["", "\\x00ff10", "\\xdeadbeef"],
    "int2vector": ["1 2 -3"],
    "oidvector": ["1 4294967295"],
    "refcursor": ["c"],
    "int4range": ["empty", "[1,5]", "(1,5)", "(,)", "[,5]", "[2147483646,2147483646]", "(1,2)", "[-3,-2]"],
    "int8range": ["[1,5]", "(,9223372036854775806]", "[-9223372036854775808,)"],
    "numrange": ["[1.50,2]", "(1,1)", "[1,1]", "(-Infinity,NaN]", "[,]", "[1.0,1.00]", "(0.001,1e30)"],
    "daterange": ["[2020-01-01,2020-01-02]", "(infinity,infinity]", "[-infinity,infinity)", "(,2020-02-28]"],
    "tsrange": ["[2020-01-01,2020-01-02 03:04:05.6]", "(-infinity,infinity)", "(,0044-03-15 00:00:00 BC]"],
    "tstzrange": ["[2020-01-01,2020-01-02 03:04:05.6+02)", "(,)"],
    "int4multirange": ["{}", "{[1,5],[7,9),(,-3)}", "{[1,2],[3,4]}", "{(,)}"],
    "int8multirange": ["{[1,5],[7,9)}"],
    "nummultirange": ["{[1,2],(2,3)}", "{[1,2),(2,3)}", "{(,1.0],[1.00,5]}"],
    "datemultirange": ["{[2020-01-01,2020-01-02],(2020-01-09,)}"],
    "tsmultirange": ["{[2020-01-01,2020-01-02],(2020-01-09,)}"],
    "tstzmultirange": ["{[2020-01-01,2020-01-02],(2020-01-09,)}"],
    "text[]": [
        "{}",
        '{NULL,"NULL",null,"nUlL"}',
        '{"",a b,"\\"","\\\\","{}","a,b",é}',
        "{{a,b},{c,d}}",
        "[0:1]={a,b}",
        "[-2:-1][3:4]={{1,2},{3,4}}",
        '{"\t","\n","\v","\f","\r",;}',
        "{{{{{{1}}}}}}",
        "[5:5]={NULL}",
    ],
    "int4[]": [
        "{1,NULL,-3}",
        "{{1,2,3},{4,5,6}}",
        "{{{1},{2}},{{3},{4}},{{5},{6}}}",
        "[2147483646:2147483646]={7}",
    ],
    "box[]": ["{(1,2),(3,4);NULL}", "{(1,2),(3,4);(5,6),(7,8)}"],
    '"char"[]': ['{"",a,\\\\200}'],
    "int2vector[]": ['{"1 2",NULL}'],
    "bool[]": ["{t,f,NULL}"],
    "float8[]": ["{1,NaN,-0,1e20}"],
    "numeric[]": ["{1.50,NaN,NULL}"],
    "bytea[]": ['{"","\\\\xff"}'],
    "interval[]": ['{"1 day","-1:00"}'],
    "timestamptz[]": ['{"2020-01-01 00:00+00",infinity}'],
    "jsonb[]": ['{"{\\"a\\": 1}"}'],
    "int4range[]": ['{"[1,3)",empty}'],
    "tsrange[]": ['{"[2020-01-01,2021-01-01)"}'],
    "tsmultirange[]": ['{"{[2020-01-01,2021-01-01)}","{}"}'],
    "inet[]": ["{1.2.3.4,::1/64}"],
    "uuid[]": ["{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}"],
    "point[]": ['{"(1,2)"}'],
}
SINCE_17 = {"interval": ["infinity", "-infinity"]}

INT8 = "(('x' || md5(i::text))::bit(64)::int8)"
SMALL = "(random() * 2000 - 1000)::int"
NUMERIC = "((random() - 0.5)::numeric * (10::numeric ^ (random() * 40 - 20)::int))::numeric(60, 25)"
TIMESTAMP = "(timestamp '2000-01-01' + random() * 1e5 * interval '3 days' - random() * interval '5000 years')"
INTERVAL = f"make_interval({SMALL}, {SMALL}, 0, {SMALL}, 0, 0, (random() - 0.5) * 1e7)"
RANDOM = {
    "int2": "(random() * 65535 - 32768)::int2",
    "int8": f"{INT8} >> (random() * 63)::int",
    "float8 decimal": "((random() * 1e6)::int / 1000.0)::float8",
    "float8 power of two": "power(2::float8, i - 1000)",
    "float8 power of ten": "('1e' || (i % 600 - 300))::float8",
    "float8 near 1e22": "('' || (i * 7919) || 'e20')::float8",
    "float8 any": "((random() - 0.5) * ('1e' || (random() * 600 - 300)::int)::float8)",
    "float4 power of two": "power(2::float8, i % 250 - 125)::float4",
    "float4 any": "((random() - 0.5) * ('1e' || (random() * 70 - 35)::int)::float8)::float4",
    "float4 whole": "(i * 99991)::float4",
    "numeric": NUMERIC,
    "numeric scaled": f"round({NUMERIC}, (random() * 30)::int - 5)",
    "date": f"{TIMESTAMP}::date",
    "time": f"{TIMESTAMP}::time",
    "timetz": f"({TIMESTAMP}::time || '+' || (i % 16) || ':' || (i % 60))::timetz",
    "timestamp": TIMESTAMP,
    "timestamptz": f"{TIMESTAMP}::timestamptz",
    "interval": INTERVAL,
    "interval large": f"make_interval(0, {SMALL}, 0, 0, 0, 0, {INT8} / 1e6)",
    "bytea": "decode(md5(i::text), 'hex')",
    "uuid": "md5(i::text)::uuid",
    "inet": "('::'::inet + (random() * 1e9)::int8) & (ARRAY['::ffff', '::ffff:ff']::inet[])[i % 2 + 1]",
    "inet shift": f"'ffff::'::inet | ('::'::inet + ({INT8} >> 1 & x'00ffff0000ffff00'::int8))",
    "cidr": "network(('10.0.0.0'::inet + i * 7919) & '255.255.255.255'::inet)",
    "varbit": f"substring({INT8}::bit(64)::varbit, 1, i % 65)",
    "point": "point(random(), random() * 1e20)",
    "pg_lsn": f"('0/0'::pg_lsn + abs({INT8} >> 1)::numeric)",
    "int4[]": f"ARRAY[{SMALL}, NULL, {SMALL}]",
    "numeric[][]": f"ARRAY[[{NUMERIC}, {NUMERIC}], [NULL, {NUMERIC}]]",
    "text[]": "ARRAY[chr((random() * 94)::int + 32), chr(i % 5 + 9), repeat(chr(i % 127 + 1), 3)]",
    "interval[]": f"ARRAY[{INTERVAL}, {INTERVAL}]",
    "timestamptz[]": f"ARRAY[{TIMESTAMP}::timestamptz, NULL]",
    "int4range": "int4range(least(a, b), greatest(a, b), (ARRAY['[]', '()', '(]', '[)'])[i % 4 + 1])",
    "numrange": "numrange(least(a, b)::numeric / 100, greatest(a, b)::numeric / 10 + 10, '[]')",
    "tstzrange": f"tstzrange({TIMESTAMP}, NULL, '()')",
    "tsrange[]": f"ARRAY[tsrange(NULL, {TIMESTAMP}, '[]'), NULL]",
    "int8multirange": "int8multirange(int8range(a, a + 5), int8range(b, b + 9, '[]'))",
}

# Types whose receive functions read text: what they refuse depends on encodings and parsers.
TEXTUAL = {18, 19, 25, 114, 142, 705, 1042, 1043, 1790, 2275, 3802, 4072}
# Their texts are names from the catalog.
NAMED = {oid for oid, name in SCALAR_NAMES.items() if name.startswith("reg")}
# Ranges and multiranges of numerics, of which we take no longer bounds than MAX_BOUND_DIGITS.
OF_NUMERICS = {3906, 4532}
INTERESTING = (0, 1, -1, 2, 4, 8, 0x7FFFFFFF, -0x80000000, 0x7FFFFFFE, 10000, 0x4000, 128, 32)


@pytest.fixture(scope="module", params=["installed", "embedded"])
def connection(request: pytest.FixtureRequest) -> Iterator[psycopg.Connection]:
    flavour: Flavour = request.param
    reason = unavailable(flavour)
    require(reason is None, reason or "")
    with (
        running(flavour, log_statement="none", log_min_error_statement="panic", log_duration="off") as server,
        psycopg.connect(server.dsn("dba"), autocommit=True) as connected,
    ):
        connected.execute("SET TimeZone = 'UTC'; SET extra_float_digits = 1; SELECT setseed(0.5)")
        yield connected


def sent(connection: psycopg.Connection, values: str) -> list[tuple[int, bytes, bytes]]:
    """(type, binary value, what the output function prints) of each row of `values`, which names them v."""
    # A cast to text is not always the output function: that of inet is not.
    result = connection.execute(f"SELECT v, format('%s', v) FROM ({values}) AS made", binary=True).pgresult
    assert result is not None
    return [
        (result.ftype(0), result.get_value(row, 0) or b"", result.get_value(row, 1) or b"")
        for row in range(result.ntuples)
    ]


def literal_samples(connection: psycopg.Connection) -> list[tuple[int, bytes, bytes]]:
    tables = [{name: literals.split() for name, literals in LITERALS.items()}, SPACED]
    if connection.info.server_version >= 170000:
        tables.append(SINCE_17)
    samples = []
    for table in tables:
        for name, literals in table.items():
            quoted = (
                "E'" + literal.replace("\\", "\\\\").replace("'", "''") + "'::" + name for literal in literals
            )
            samples += sent(connection, " UNION ALL ".join(f"SELECT {q} AS v" for q in quoted))
        if table is SPACED:
            zoned = (f"'{literal}'::timestamp AT TIME ZONE 'UTC'" for literal in SPACED["timestamp"])
            samples += sent(connection, " UNION ALL ".join(f"SELECT {q} AS v" for q in zoned))
    return samples


def check(samples: list[tuple[int, bytes, bytes]]) -> None:
    wrong = []
    for oid, value, text in samples:
        # Not at the buffer's start: offsets must matter.
        got = decode_binary(oid, b"\x01" + value + b"\x02", 1, 1 + len(value))
        if got != text:
            wrong.append((type_name(oid), value.hex(), text, got))
    assert not wrong


def test_values_sent_by_the_server(connection: psycopg.Connection) -> None:
    samples = literal_samples(connection)
    assert len(samples) > 300
    check(samples)


@pytest.mark.parametrize("expression", RANDOM.values(), ids=RANDOM)
def test_random_values_sent_by_the_server(connection: psycopg.Connection, expression: str) -> None:
    samples = sent(
        connection,
        f"SELECT {expression} AS v FROM (SELECT i, (random() * 100)::int AS a, (random() * 100)::int AS b"
        " FROM generate_series(1, 1500) AS i) AS numbers",
    )
    assert len(samples) == 1500
    check(samples)


def mutated(value: bytes, rng: random.Random) -> bytes:
    changed = bytearray(value)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at = rng.randrange(len(changed) + 1)
        match rng.randrange(6):
            case 0:
                changed[at:] = b""
            case 1:
                changed[at:at] = rng.randbytes(rng.choice((1, 2, 4)))
            case 2 if at < len(changed):
                changed[at] ^= 1 << rng.randrange(8)
            case 3:
                at = at // 4 * 4
                changed[at : at + 4] = (rng.choice(INTERESTING) & 0xFFFFFFFF).to_bytes(4, "big")
            case 4:
                at = at // 2 * 2
                changed[at : at + 2] = rng.choice((0, 1, 0xFFFF, 0x7FFF, 0x8000, 9999, 3)).to_bytes(2, "big")
            case _ if at < len(changed):
                changed[at] = rng.randrange(256)
    return bytes(changed)


def test_values_received_by_the_server(connection: psycopg.Connection) -> None:
    """What the server makes of damaged values sent in Bind: the same text, or an error where we say None."""
    rng = random.Random(20261123)
    wrong = []
    refused = accepted = 0
    samples = [s for s in literal_samples(connection) if len(s[1]) < 500]
    for oid, value, _ in samples * 12:
        element = ARRAY_ELEMENT.get(oid, oid)
        if element in TEXTUAL or element in NAMED:
            continue
        sent_value = mutated(value, rng)
        result = connection.pgconn.exec_params(b"SELECT format('%s', $1)", [sent_value], [oid], [1])
        good = result.status == psycopg.pq.ExecStatus.TUPLES_OK
        expected = result.get_value(0, 0) if good else None
        got = decode_binary(oid, sent_value, 0, len(sent_value))
        if got is None and expected and len(expected) > MAX_BOUND_DIGITS and element in OF_NUMERICS:
            continue
        if got != expected:
            wrong.append((type_name(oid), sent_value.hex(), expected, got, result.error_message[:80]))
        accepted += good
        refused += not good
    assert not wrong
    assert accepted > 500
    assert refused > 500


def test_names_are_those_of_the_catalog(connection: psycopg.Connection) -> None:
    rows = connection.execute(
        "SELECT oid::int8, typname, typelem::int8, typsend::text FROM pg_type"
        " WHERE oid < 10000 AND typtype IN ('b', 'r', 'm')"
        " AND typname !~ '^_?pg_(type|attribute|proc|class)$'"
    ).fetchall()
    assert len(rows) > 150
    for oid, name, element, send in rows:
        if send == "array_send":
            assert ARRAY_ELEMENT[oid] == element, name
        else:
            assert type_name(oid) == name
    ranges = connection.execute("SELECT rngtypid::int8, rngsubtype::int8, rngmultitypid::int8 FROM pg_range")
    for oid, bound, multirange in ranges.fetchall():
        assert RANGE_BOUND[oid] == bound
        assert MULTIRANGE_RANGE[multirange] == oid
