"""The part of a TLS handshake that is in clear: who the client asks for and what the server chose.

Sources: RFC 8446 sections 4.1.2, 4.1.3 and 5.1, RFC 6066 section 3 (server_name), RFC 7301 (ALPN). Bounded:
only the first handshake message of each side is looked at, up to `MAX_HELLO` bytes.
"""

from typing import Final

__all__ = ["HelloReader", "cipher_name", "version_name"]

MAX_HELLO: Final = 16384 + 5
CLIENT_HELLO: Final = 1
SERVER_HELLO: Final = 2

_EXTENSION_SERVER_NAME: Final = 0
_EXTENSION_ALPN: Final = 16
_EXTENSION_SUPPORTED_VERSIONS: Final = 43

_VERSIONS: Final = {0x0300: "SSLv3", 0x0301: "TLSv1", 0x0302: "TLSv1.1", 0x0303: "TLSv1.2", 0x0304: "TLSv1.3"}
# The IANA names of the suites that PostgreSQL servers with OpenSSL agree on in practice.
_CIPHERS: Final = {
    0x1301: "TLS_AES_128_GCM_SHA256",
    0x1302: "TLS_AES_256_GCM_SHA384",
    0x1303: "TLS_CHACHA20_POLY1305_SHA256",
    0x1304: "TLS_AES_128_CCM_SHA256",
    0x002F: "TLS_RSA_WITH_AES_128_CBC_SHA",
    0x0035: "TLS_RSA_WITH_AES_256_CBC_SHA",
    0x003C: "TLS_RSA_WITH_AES_128_CBC_SHA256",
    0x003D: "TLS_RSA_WITH_AES_256_CBC_SHA256",
    0x009C: "TLS_RSA_WITH_AES_128_GCM_SHA256",
    0x009D: "TLS_RSA_WITH_AES_256_GCM_SHA384",
    0x009E: "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256",
    0x009F: "TLS_DHE_RSA_WITH_AES_256_GCM_SHA384",
    0xC009: "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    0xC00A: "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    0xC013: "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    0xC014: "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    0xC027: "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
    0xC028: "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384",
    0xC02B: "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    0xC02C: "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    0xC02F: "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    0xC030: "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    0xCCA8: "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    0xCCA9: "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    0xCCAA: "TLS_DHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
}


def version_name(version: int) -> str:
    """`TLSv1.3` for 0x0304; an unknown number in hexadecimal."""
    return _VERSIONS.get(version, f"0x{version:04x}")


def cipher_name(cipher: int) -> str:
    """The IANA name of a cipher suite; an unknown number in hexadecimal."""
    return _CIPHERS.get(cipher, f"0x{cipher:04x}")


class HelloReader:
    """Collects one side's first handshake message. `done` is True once nothing more will be found."""

    def __init__(self) -> None:
        self.done = False
        self.found = False
        self.server_name = b""
        self.alpn = b""
        self.version = 0
        self.cipher = 0
        self._data = b""

    def feed(self, data: bytes) -> None:
        """The next bytes of this side's stream."""
        if self.done:
            return
        self._data += data[: MAX_HELLO - len(self._data)]
        try:
            self._read()
        except IndexError:
            # The message is not all there yet, or never will be.
            if len(self._data) >= MAX_HELLO:
                self.done = True

    def _read(self) -> None:
        handshake = b""
        at = 0
        data = self._data
        while len(handshake) < 4 or len(handshake) < 4 + int.from_bytes(handshake[1:4], "big"):
            if data[at] != 22:
                self.done = True  # an alert, or no TLS at all
                return
            size = (data[at + 3] << 8) | data[at + 4]
            if len(data) < at + 5 + size:
                raise IndexError
            handshake += data[at + 5 : at + 5 + size]
            at += 5 + size
        self.done = True
        try:
            self._hello(handshake[0], handshake[4 : 4 + int.from_bytes(handshake[1:4], "big")])
        except IndexError:
            return  # a hello that ends early names nothing
        self.found = True

    def _hello(self, kind: int, body: bytes) -> None:
        if kind not in (CLIENT_HELLO, SERVER_HELLO):
            raise IndexError
        self.version = (body[0] << 8) | body[1]
        at = 34
        at += 1 + body[at]
        if kind == CLIENT_HELLO:
            at += 2 + ((body[at] << 8) | body[at + 1])
            at += 1 + body[at]
        else:
            self.cipher = (body[at] << 8) | body[at + 1]
            at += 3
        if at + 2 > len(body):
            return
        end = min(len(body), at + 2 + ((body[at] << 8) | body[at + 1]))
        at += 2
        while at + 4 <= end:
            number = (body[at] << 8) | body[at + 1]
            size = (body[at + 2] << 8) | body[at + 3]
            self._extension(kind, number, body[at + 4 : min(end, at + 4 + size)])
            at += 4 + size

    def _extension(self, kind: int, number: int, value: bytes) -> None:
        if number == _EXTENSION_SERVER_NAME and kind == CLIENT_HELLO and len(value) >= 5 and value[2] == 0:
            self.server_name = value[5 : 5 + ((value[3] << 8) | value[4])]
        elif number == _EXTENSION_ALPN and len(value) >= 3:
            self.alpn = value[3 : 3 + value[2]]
        elif number == _EXTENSION_SUPPORTED_VERSIONS and kind == SERVER_HELLO and len(value) >= 2:
            self.version = (value[0] << 8) | value[1]
