"""Bind values by hand: each type's layout, wrong lengths, limits, random bytes. See test_types_oracle too."""

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mirror_audit.pgwire.type_oids import ARRAY_ELEMENT, MULTIRANGE_RANGE, RANGE_BOUND, SCALAR_NAMES
from mirror_audit.pgwire.type_ranges import MAX_BOUND_DIGITS, MAX_RANGES
from mirror_audit.pgwire.types import MAX_TEXT, decode_binary, type_name

KNOWN = sorted({*SCALAR_NAMES, *ARRAY_ELEMENT, *RANGE_BOUND, *MULTIRANGE_RANGE})


def decode(oid: int, value: bytes) -> bytes | None:
    """Decode from the middle of a buffer, so that wrong offsets show."""
    return decode_binary(oid, b"\x7f\x7f" + value + b"\x7f\x7f\x7f\x7f", 2, 2 + len(value))


def numeric(weight: int, sign: int, scale: int, *digits: int) -> bytes:
    return struct.pack(f">HhHH{len(digits)}h", len(digits), weight, sign, scale, *digits)


def array(element: int, dimensions: list[tuple[int, int]], *values: bytes | None) -> bytes:
    made = [struct.pack(">iiI", len(dimensions), int(None in values), element)]
    made += [struct.pack(">ii", size, lower) for size, lower in dimensions]
    made += [int4(-1) if value is None else int4(len(value)) + value for value in values]
    return b"".join(made)


def ranged(flags: int, *bounds: bytes) -> bytes:
    return bytes([flags]) + b"".join(struct.pack(">i", len(bound)) + bound for bound in bounds)


def int4(value: int) -> bytes:
    return struct.pack(">i", value)


def int8(value: int) -> bytes:
    return struct.pack(">q", value)


VALUES: list[tuple[int, str, str]] = [
    # oid, value in hexadecimal, text
    (16, "00", "f"),
    (16, "01", "t"),
    (16, "02", "t"),
    (17, "", "\\x"),
    (17, "00ff10", "\\x00ff10"),
    (18, "41", "A"),
    (18, "00", ""),
    (18, "ff", "\\377"),
    (19, "6e616d65", "name"),
    (20, "8000000000000000", "-9223372036854775808"),
    (21, "ffff", "-1"),
    (22, "0000000100000000000000150000000200000000000000020001000000020002", "1 2"),
    (23, "80000000", "-2147483648"),
    (23, "0001e240", "123456"),
    (25, "c3a9", "é"),
    (25, "", ""),
    (26, "ffffffff", "4294967295"),
    (27, "000000010002", "(1,2)"),
    (28, "80000000", "2147483648"),
    (30, "00000001000000000000001a0000000100000000000000047fffffff", "2147483647"),
    (114, "7b7d", "{}"),
    (142, "3c612f3e", "<a/>"),
    (600, "3ff0000000000000c000000000000000", "(1,-2)"),
    (601, "3ff0000000000000400000000000000040080000000000004010000000000000", "[(1,2),(3,4)]"),
    (602, "00000000013ff00000000000004000000000000000", "[(1,2)]"),
    (602, "01000000013ff00000000000004000000000000000", "((1,2))"),
    (603, "3ff0000000000000401000000000000040080000000000004000000000000000", "(3,4),(1,2)"),
    (604, "000000013ff00000000000004000000000000000", "((1,2))"),
    (628, "3ff000000000000040000000000000004008000000000000", "{1,2,3}"),
    (650, "0218010401020300", "1.2.3.0/24"),
    (700, "3dcccccd", "0.1"),
    (700, "80000000", "-0"),
    (700, "ff800000", "-Infinity"),
    (700, "7fc00001", "NaN"),
    (700, "49742400", "1e+06"),
    (701, "4415af1d78b58c40", "1e+20"),
    (701, "44b52d02c7e14af6", "9.999999999999999e+22"),
    (701, "0000000000000001", "5e-324"),
    (701, "fff8000000000000", "NaN"),
    (718, "3ff000000000000040000000000000004008000000000000", "<(1,2),3>"),
    (774, "08002b0102030405", "08:00:2b:01:02:03:04:05"),
    (774, "08002b010203", "08:00:2b:ff:fe:01:02:03"),
    (829, "08002b010203", "08:00:2b:01:02:03"),
    (869, "0220000401020304", "1.2.3.4"),
    (869, "0218000401020304", "1.2.3.4/24"),
    (869, "0380001000000000000000000000ffff01020304", "::ffff:1.2.3.4"),
    (869, "0380001020010db8000000000000000000000001", "2001:db8::1"),
    (1082, "00000000", "2000-01-01"),
    (1082, "7fffffff", "infinity"),
    (1082, "80000000", "-infinity"),
    (1083, "000000141dd76000", "24:00:00"),
    (1114, "fffffffffffffffe", "1999-12-31 23:59:59.999998"),
    (1184, "0000000000000000", "2000-01-01 00:00:00+00"),
    (1184, "7fffffffffffffff", "infinity"),
    (1186, "00000000000000000000000000000000", "00:00:00"),
    (1186, "ffffffffffffffff0000000100000000", "1 day -00:00:00.000001"),
    (1186, "0000000000000001ffffffff00000000", "-1 days +00:00:00.000001"),
    (1186, "80000000000000008000000080000000", "-infinity"),
    (1186, "80000000000000000000000000000000", "-2562047788:00:54.775808"),
    (1266, "0000000000000000ffffb9b0", "00:00:00+05"),
    (1266, "000000000000000000000001", "00:00:00-00:00:01"),
    (1560, "00000003a0", "101"),
    (1562, "00000000", ""),
    (1562, "00000009ff80", "111111111"),
    (1700, "0000000000000000", "0"),
    (1700, "0000000000000002", "0.00"),
    (1700, "00000000c0000000", "NaN"),
    (1700, "00000000d0000020", "Infinity"),
    (1700, "00000000f0000020", "-Infinity"),
    (2278, "", ""),
    (2205, "000004eb", "1259"),
    (2950, "000102030405060708090a0b0c0d0e0f", "00010203-0405-0607-0809-0a0b0c0d0e0f"),
    (3220, "00000016b374d848", "16/B374D848"),
    (3802, "015b5d", "[]"),
    (4072, "01242e61", "$.a"),
    (5069, "ffffffffffffffff", "18446744073709551615"),
]

COMPOSED: list[tuple[int, bytes, str]] = [
    (1082, int4(-2451545), "4714-11-24 BC"),
    (1082, int4(2145031948), "5874897-12-31"),
    (1184, int8(-730485 * 86400 * 10**6), "0001-01-01 00:00:00+00 BC"),
    (1700, numeric(1, 0, 2, 1, 2345, 6700), "12345.67"),
    (1700, numeric(-1, 0x4000, 4, 5), "-0.0005"),
    # Digits beyond the scale are cut off, and with them the sign.
    (1700, numeric(-1, 0x4000, 3, 5), "0.000"),
    (1700, numeric(0, 0, 1, 7, 9999), "7.9"),
    (1700, numeric(2, 0, 0, 0, 0, 7), "7"),
    (1700, numeric(3, 0, 0, 12), "12000000000000"),
    (1700, numeric(-3, 0, 12, 1234), "0.000000001234"),
    (1700, numeric(32767, 0, 0, 1), "1" + "0" * 131068),
    (1700, numeric(-32768, 0, 0x3FFF, 1), "0." + "0" * 0x3FFF),
    (1007, array(23, []), "{}"),
    (1007, array(23, [(0, 1)]), "{}"),
    (1007, array(23, [(3, 1)], int4(1), None, int4(-3)), "{1,NULL,-3}"),
    (1007, array(23, [(2, 1), (2, 1)], int4(1), int4(2), int4(3), int4(4)), "{{1,2},{3,4}}"),
    (1007, array(23, [(2, 0)], int4(1), int4(2)), "[0:1]={1,2}"),
    (1007, array(23, [(1, -5), (2, 1)], int4(1), int4(2)), "[-5:-5][1:2]={{1,2}}"),
    # The server minds a wrong element type only if it is a built-in one.
    (1007, array(20000, [(1, 1)], int4(1)), "{1}"),
    (1009, array(25, [(4, 1)], b"", b"null", b'a"b\\', b"a b"), '{"","null","a\\"b\\\\","a b"}'),
    (1009, array(25, [(4, 1)], b"a,b", b"{", b";", b"\v"), '{"a,b","{",;,"\v"}'),
    (1020, array(603, [(2, 1)], struct.pack(">4d", 3, 4, 1, 2), None), "{(3,4),(1,2);NULL}"),
    (3904, ranged(1), "empty"),
    (3904, ranged(0x02 | 0x04, int4(1), int4(5)), "[1,6)"),
    (3904, ranged(0, int4(1), int4(2)), "empty"),
    (3904, ranged(0x18), "(,)"),
    (3904, ranged(0x08 | 0x04, int4(5)), "(,6)"),
    # Flags that no client should send (of NULL bounds) are ignored.
    (3904, ranged(0x62, int4(1), int4(2)), "[1,2)"),
    (3906, ranged(0x06, numeric(0, 0, 1, 1), numeric(0, 0, 0, 2)), "[1.0,2]"),
    (3906, ranged(0x02, numeric(0, 0, 0, 1), numeric(0, 0xC000, 0)), "[1,NaN)"),
    (3906, ranged(0x04, numeric(0, 0, 0, 1), numeric(0, 0, 1, 1)), "empty"),
    (3908, ranged(0x12, int8(0)), '["2000-01-01 00:00:00",)'),
    (3912, ranged(0x06, int4(0), int4(0x7FFFFFFF)), "[2000-01-01,infinity]"),
    (4451, int4(0), "{}"),
    (
        4451,
        int4(4)
        + b"".join(
            int4(len(one)) + one
            for one in (
                ranged(0x02, int4(7), int4(9)),
                ranged(0x06, int4(1), int4(3)),
                ranged(1),
                ranged(0x02, int4(4), int4(5)),
            )
        ),
        "{[1,5),[7,9)}",
    ),
    (3905, array(3904, [(1, 1)], ranged(0x02, int4(1), int4(2))), '{"[1,2)"}'),
    (3909, array(3908, [(1, 1)], ranged(0x12, int8(0))), '{"[\\"2000-01-01 00:00:00\\",)"}'),
]

REFUSED: list[tuple[int, bytes]] = [
    (0, b""),
    (16384, b"abc"),
    (790, int8(100)),  # money depends on lc_monetary
    (2249, int4(0)),  # no client can send a record
    (19, b"n" * 64),
    (602, b"\0" + int4(0)),
    (604, int4(-1)),
    (604, int4(0x10000001) + b"\0" * 16),
    (628, b"\0" * 24),
    (718, struct.pack(">3d", 1, 2, -3)),
    (650, bytes.fromhex("0218000401020304")),  # bits right of the mask
    (869, bytes.fromhex("0221000401020304")),
    (869, bytes.fromhex("0420000401020304")),
    (869, bytes.fromhex("0320000401020304")),
    (1082, int4(-2451546)),
    (1082, int4(2145031949)),
    (1083, int8(-1)),
    (1083, int8(86400000001)),
    (1114, int8(-211813488000000001)),
    (1184, int8(9223371331200000000)),
    (1266, int8(0) + int4(57600)),
    (1266, int8(0) + int4(-57600)),
    (1562, int4(-1)),
    (1562, int4(0x7FFFFFFF)),
    (1562, int4(9) + b"\0"),
    (1700, numeric(0, 0, 0, 10000)),
    (1700, numeric(0, 0, 0, -1)),
    (1700, numeric(0, 0x8000, 0, 1)),
    (1700, numeric(0, 0, 0x4000, 1)),
    (1700, numeric(0, 0, 0, 1) + b"\0"),
    (1700, struct.pack(">HhHH", 0xFFFF, 0, 0, 0)),
    (3802, b"\x02{}"),
    (3802, b""),
    (4072, b"\x02$"),
    (1007, array(25, [(1, 1)], int4(1))),
    (1007, array(23, [(1, 1)], int4(1)) + b"\0"),
    (1007, array(23, [(2, 1)], int4(1))),
    (1007, array(23, [(0, 1)], int4(1))),
    (1007, array(23, [(1, 1)] * 7, int4(1))),
    (1007, array(23, [(0x7FFFFFFF, 1)])),
    (1007, array(23, [(0x7FFFFFFF, 0)] * 6)),
    (1007, array(23, [(65536, 1), (65536, 1)])),
    (1007, array(23, [(-1, 1)])),
    (1007, array(23, [(1, 0x7FFFFFFF)], int4(1))),
    (1007, struct.pack(">iii", -1, 0, 23)),
    (1007, struct.pack(">iii", 1, 2, 23) + struct.pack(">ii", 0, 1)),
    (1007, struct.pack(">iiiii", 1, 0, 23, 1, 1) + int4(-2)),
    (1007, struct.pack(">iiiii", 1, 0, 23, 1, 1) + int4(0x7FFFFFFF) + int4(1)),
    (22, array(21, [(1, 0)], None)),
    (22, array(21, [(1, 1)], b"\0\1")),
    (22, array(21, [(0, 0)])),
    (3904, b""),
    (3904, ranged(0x02, int4(2), int4(1))),
    (3904, ranged(0x06, int4(1), int4(0x7FFFFFFF))),
    (3926, ranged(0x06, int8(1), int8(0x7FFFFFFFFFFFFFFF))),
    (3912, ranged(0x06, int4(1), int4(2145031948))),
    (3904, ranged(0x02, int4(1))),
    (3904, ranged(0x01, int4(1))),
    (3904, ranged(0x02, int4(1), b"\0")),
    (3904, bytes([0x12]) + int4(-1)),
    (3906, ranged(0x02, numeric(0, 0xC000, 0), numeric(0, 0xD000, 0))),
    (3906, ranged(0x12, numeric(0, 0, 0, 1)[:-1])),
    (4451, int4(-1)),
    (4451, int4(0x7FFFFFFF)),
    (4451, int4(1) + int4(0x7FFFFFFF) + b"\x01"),
    (4451, int4(0) + b"\0"),
]

# Types of fixed length, and that length (macaddr8 takes a macaddr's as well).
LENGTHS = {
    16: 1, 18: 1, 20: 8, 21: 2, 23: 4, 26: 4, 27: 6, 28: 4, 29: 4, 600: 16, 601: 32, 603: 32, 700: 4,
    701: 8, 718: 24, 829: 6, 1082: 4, 1083: 8, 1114: 8, 1184: 8, 1186: 16, 1266: 12, 2205: 4, 2278: 0,
    2950: 16, 3220: 8, 5069: 8,
}  # fmt: skip


@pytest.mark.parametrize(("oid", "value", "text"), VALUES)
def test_scalars(oid: int, value: str, text: str) -> None:
    assert decode(oid, bytes.fromhex(value)) == text.encode()


@pytest.mark.parametrize(("oid", "value", "text"), COMPOSED)
def test_numerics_and_containers(oid: int, value: bytes, text: str) -> None:
    assert decode(oid, value) == text.encode()


@pytest.mark.parametrize(("oid", "value"), REFUSED)
def test_refused(oid: int, value: bytes) -> None:
    assert decode(oid, value) is None


@pytest.mark.parametrize(("oid", "length"), LENGTHS.items())
def test_fixed_lengths(oid: int, length: int) -> None:
    for size in range(40):
        # Zeros and a one at the end are a value of all these types.
        value = b"\x00" * (size - 1) + b"\x01" * (size > 0)
        assert (decode(oid, value) is not None) == (size == length)


@pytest.mark.parametrize(("oid", "value"), [row[:2] for row in COMPOSED if len(row[1]) > 1])
def test_cut_short(oid: int, value: bytes) -> None:
    for end in range(len(value)):
        assert decode(oid, value[:end]) is None


@pytest.mark.parametrize("oid", [23, 25, 1700, 1007, 3904, 4451, 16384])
@pytest.mark.parametrize(("start", "end"), [(-1, 3), (0, 5), (3, 2), (-4, -1), (5, 5), (0, 2**62)])
def test_offsets_outside_of_the_buffer(oid: int, start: int, end: int) -> None:
    assert decode_binary(oid, b"abcd", start, end) is None


def test_length_of_made_texts_is_limited() -> None:
    half = MAX_TEXT // 2
    assert decode(17, bytes(half - 1)) == b"\\x" + b"00" * (half - 1)
    assert decode(17, bytes(half)) is None
    assert decode(1562, int4(MAX_TEXT) + bytes(MAX_TEXT // 8)) == b"0" * MAX_TEXT
    assert decode(1562, int4(MAX_TEXT + 8) + bytes(MAX_TEXT // 8 + 1)) is None
    assert decode(604, int4(MAX_TEXT // 5) + bytes(MAX_TEXT // 5 * 16)) is None
    assert decode(1009, array(25, [(1, 1)], b"x" * (MAX_TEXT - 2))) == b"{" + b"x" * (MAX_TEXT - 2) + b"}"
    assert decode(1009, array(25, [(1, 1)], b"x" * (MAX_TEXT - 1))) is None
    assert decode(1009, array(25, [(1, 1)], b'"' * (half + 8))) is None
    assert decode(1005, array(21, [(half, 1)], *[b"\0\0"] * half)) is None
    assert decode(22, array(21, [(half + 1, 0)], *[b"\0\0"] * (half + 1))) is None
    many = ranged(0x18)
    assert decode(4451, int4(MAX_RANGES + 1) + (int4(len(many)) + many) * (MAX_RANGES + 1)) is None
    assert decode(4451, int4(9) + (int4(len(many)) + many) * 9) == b"{(,)}"


def test_texts_that_are_the_value_have_no_limit() -> None:
    long = b"x" * (MAX_TEXT + 1)
    assert decode(25, long) == long
    assert decode(3802, b"\x01" + long) == long


def test_numerics_cannot_multiply() -> None:
    # Ten bytes that stand for 147455 digits, a thousand times: without limits this test would take minutes.
    one = numeric(32767, 0, 0x3FFF, 1)
    assert decode(1231, array(1700, [(1000, 1)], *[one] * 1000)) is None
    two = ranged(0x04, one, one)
    assert decode(3906, two) is None
    assert decode(3907, array(3906, [(1000, 1)], *[two] * 1000)) is None
    assert decode(4532, int4(1000) + (int4(len(two)) + two) * 1000) is None
    most = numeric(MAX_BOUND_DIGITS // 4 - 1, 0, 0, 1)
    assert decode(3906, ranged(0x12, most)) == b"[1" + b"0" * (MAX_BOUND_DIGITS - 4) + b",)"


def test_type_names() -> None:
    assert type_name(23) == "int4"
    assert type_name(1184) == "timestamptz"
    assert type_name(1007) == "int4[]"
    assert type_name(3905) == "int4range[]"
    assert type_name(790) == "money"
    assert type_name(0) is None
    assert type_name(16384) is None
    assert all(type_name(oid) for oid in KNOWN)


def test_every_array_has_a_known_element() -> None:
    assert set(ARRAY_ELEMENT.values()) <= set(SCALAR_NAMES)


@given(st.sampled_from(KNOWN), st.binary(max_size=100))
@example(1007, b"\0" * 12)
def test_random_bytes_never_raise(oid: int, value: bytes) -> None:
    text = decode(oid, value)
    assert text is None or isinstance(text, bytes)


@given(st.data())
def test_damaged_containers_never_raise(data: st.DataObject) -> None:
    oid, value, _ = data.draw(st.sampled_from([row for row in COMPOSED if len(row[1]) < 200]))
    damaged = bytearray(value)
    for at in data.draw(st.lists(st.integers(0, len(value) - 1), max_size=4)):
        damaged[at] = data.draw(st.integers(0, 255))
    text = decode(oid, bytes(damaged))
    assert text is None or len(text) <= MAX_TEXT


@given(st.integers(-(2**63), 2**63 - 1))
@example(-(2**63))
def test_every_integer_is_its_decimal(value: int) -> None:
    assert decode(20, int8(value)) == str(value).encode()
    assert decode(5069, int8(value)) == str(value & 0xFFFFFFFFFFFFFFFF).encode()
    small = (value & 0xFFFFFFFF) - 2**31
    assert decode(23, int4(small)) == str(small).encode()


@given(st.floats(allow_nan=False, allow_infinity=False))
@example(1e23)
@example(2.0**-44)
def test_every_float8_reads_back(value: float) -> None:
    text = decode(701, struct.pack(">d", value))
    assert text is not None
    assert struct.pack(">d", float(text)) == struct.pack(">d", value)
    assert len(text) <= 24


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_every_float4_reads_back(value: float) -> None:
    text = decode(700, struct.pack(">f", value))
    assert text is not None
    assert struct.pack(">f", float(text)) == struct.pack(">f", value)
    assert len(text) <= 15


@given(st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**20), max_value=10**20))
def test_every_numeric_is_its_decimal(value: object) -> None:
    text = f"{value:.6f}"
    whole, fraction = text.lstrip("-").split(".")
    padded = whole.rjust(24, "0") + fraction + "00"
    groups = [int(padded[i : i + 4]) for i in range(0, 32, 4)]
    sign = 0x4000 if text.startswith("-") else 0
    expected = text if any(groups) else text.lstrip("-")
    assert decode(1700, numeric(5, sign, 6, *groups)) == expected.encode()
