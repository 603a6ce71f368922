"""Values of many types, as Python drivers take them, for statements with parameters."""

import datetime
import decimal
import ipaddress
import uuid
from typing import Any

__all__ = ["VALUES"]

VALUES: tuple[tuple[str, Any], ...] = (
    ("int2", 32767),
    ("int4", -2147483648),
    ("int8", 9223372036854775807),
    ("float4", 1.5),
    ("float8", -0.1),
    ("numeric", decimal.Decimal("-12345678901234567890.00012300")),
    ("numeric", decimal.Decimal("NaN")),
    ("bool", True),
    ("text", 'it\'s \\ a "test"\nof lines, ä€\U0001f375'),
    ("text", ""),
    ("text", None),
    ("bytea", bytes(range(256))),
    ("date", datetime.date(2026, 9, 21)),
    ("date", datetime.date(1, 1, 1)),
    ("time", datetime.time(23, 59, 59, 999999)),
    ("timestamp", datetime.datetime(1999, 12, 31, 23, 59, 59, 1)),  # noqa: DTZ001
    ("timestamptz", datetime.datetime(2026, 9, 21, 14, 13, 20, 123456, datetime.UTC)),
    ("interval", datetime.timedelta(days=-3, seconds=4, microseconds=5)),
    ("uuid", uuid.UUID("12345678-1234-5678-1234-567812345678")),
    ("inet", ipaddress.ip_interface("192.168.0.1/24")),
    ("inet", ipaddress.ip_address("2001:db8::1")),
    ("cidr", ipaddress.ip_network("10.0.0.0/8")),
    ("int4[]", [1, 2, None, 4]),
    ("text[]", ["a", "b,c", 'd"e', "", "NULL", None]),
)
