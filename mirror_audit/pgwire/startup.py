"""What can come before the first typed message: PROXY protocol headers and the startup packets.

Sources: PostgreSQL 18 manual, "Message Formats" (StartupMessage, SSLRequest, GSSENCRequest, CancelRequest);
the PROXY protocol specification, versions 1 and 2.
"""

from hashlib import blake2b
from ipaddress import ip_address
from typing import Final

from mypy_extensions import i64

from mirror_audit.octets import u16_at, u32_at

__all__ = [
    "MAX_STARTUP_BYTES",
    "NEED_MORE",
    "NOT_STARTUP",
    "ProxyHeader",
    "key_digest",
    "looks_like_startup",
    "parse_proxy_header",
    "split_strings",
    "startup_length",
]

# MAX_STARTUP_PACKET_LENGTH of the server, which does not count the length field itself.
MAX_STARTUP_BYTES: Final = 10_004
MAX_PROXY_BYTES: Final = 4096
PROXY_V1: Final = b"PROXY "
PROXY_V2: Final = b"\r\n\r\n\x00\r\nQUIT\n"
MAX_PROXY_V1: Final = 107

NEED_MORE: Final = 0
NOT_STARTUP: Final = -1


class ProxyHeader:
    """A PROXY header of `length` bytes. `address` is empty if the header names no TCP client."""

    def __init__(self, length: int, address: bytes, port: int) -> None:
        self.length = length
        self.address = address
        self.port = port


def startup_length(data: bytes) -> i64:
    """The length of the startup packet that `data` begins with, NEED_MORE or NOT_STARTUP."""
    if len(data) < 4:
        if len(data) > 0 and data[0] != 0:
            return NOT_STARTUP
        return NEED_MORE
    length: i64 = u32_at(data, 0)
    if length < 8 or length > MAX_STARTUP_BYTES:
        return NOT_STARTUP
    if len(data) >= 8:
        major: i64 = u16_at(data, 4)
        if major != 3 and major != 2 and major != 1234:
            return NOT_STARTUP
    return length


def looks_like_startup(data: bytes) -> bool:
    """True if `data` is one whole startup packet and nothing else."""
    length: i64 = startup_length(data)
    if length <= 0 or length != len(data):
        return False
    major: i64 = u16_at(data, 4)
    return major == 1234 or (major == 3 and data[-1] == 0 and b"user\x00" in data)


def split_strings(data: bytes) -> list[bytes] | None:
    """The zero-terminated strings up to the empty one that ends a list of names and values."""
    strings: list[bytes] = []
    at = 0
    while at < len(data):
        end = data.find(b"\x00", at)
        if end < 0:
            return None
        if end == at and len(strings) % 2 == 0:
            return strings
        strings.append(data[at:end])
        at = end + 1
    # The terminator is missing; what was read stands if it makes pairs.
    return strings if len(strings) % 2 == 0 else None


def key_digest(process_id: i64, key: bytes) -> bytes:
    """Tells one backend's cancellation key from another's without giving it away."""
    return blake2b(key, digest_size=16, person=str(int(process_id)).encode()[:16]).digest()


def parse_proxy_header(data: bytes) -> ProxyHeader | None:
    """The PROXY header at the start of `data`.

    A header of length 0 means that there is none, None that more bytes are needed to tell.
    """
    if data.startswith(PROXY_V2):
        return _version_2(data)
    if data.startswith(PROXY_V1):
        return _version_1(data)
    if PROXY_V2.startswith(data) or PROXY_V1.startswith(data):
        return None
    return ProxyHeader(0, b"", 0)


def _version_1(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\r\n", 0, MAX_PROXY_V1)
    if end < 0:
        return None if len(data) < MAX_PROXY_V1 else ProxyHeader(0, b"", 0)
    fields = data[:end].split(b" ")
    if len(fields) == 6 and fields[1] in (b"TCP4", b"TCP6"):
        try:
            address = ip_address(fields[2].decode("ascii")).packed
            port = int(fields[4])
        except ValueError:
            return ProxyHeader(end + 2, b"", 0)
        if 0 <= port <= 65535:
            return ProxyHeader(end + 2, address, port)
    return ProxyHeader(end + 2, b"", 0)


def _version_2(data: bytes) -> ProxyHeader | None:
    if len(data) < 16:
        return None
    length = 16 + int(u16_at(data, 14))
    if data[12] >> 4 != 2 or length > MAX_PROXY_BYTES:
        return ProxyHeader(0, b"", 0)
    if len(data) < length:
        return None
    command = data[12] & 15
    family = data[13]
    if command == 1 and family == 0x11 and length >= 28:
        return ProxyHeader(length, data[16:20], int(u16_at(data, 24)))
    if command == 1 and family == 0x21 and length >= 52:
        return ProxyHeader(length, data[16:32], int(u16_at(data, 48)))
    # LOCAL is the proxy's own health check: its connection is its own.
    return ProxyHeader(length, b"", 0)
