"""Builders of TLS hellos (RFC 8446, sections 4.1.2 and 4.1.3)."""

__all__ = ["client_hello", "extension", "handshake", "record", "server_hello"]


def _word(value: int, size: int = 2) -> bytes:
    return value.to_bytes(size, "big")


def record(content: bytes, kind: int = 22) -> bytes:
    """One record, TLS 1.0 on its outside as real ones are."""
    return bytes([kind]) + b"\3\1" + _word(len(content)) + content


def handshake(kind: int, body: bytes) -> bytes:
    """One handshake message."""
    return bytes([kind]) + _word(len(body), 3) + body


def extension(number: int, value: bytes) -> bytes:
    """One extension."""
    return _word(number) + _word(len(value)) + value


def _alpn(name: bytes) -> bytes:
    return extension(16, _word(len(name) + 1) + bytes([len(name)]) + name)


def client_hello(
    server_name: bytes = b"", alpn: bytes = b"", extensions: bytes | None = b"", padding: int = 0
) -> bytes:
    """A ClientHello in one record; `extensions` None: it ends before them."""
    body = b"\3\3" + b"r" * 32 + b"\x20" + b"s" * 32 + _word(4) + b"\x13\1\x13\2" + b"\1\0"
    if extensions is not None:
        found = extension(10, b"\0\2\0\x1d") + extensions
        if server_name:
            found += extension(0, _word(len(server_name) + 3) + b"\0" + _word(len(server_name)) + server_name)
        if alpn:
            found += _alpn(alpn)
        if padding:
            found += extension(21, b"\0" * padding)
        body += _word(len(found)) + found
    return record(handshake(1, body))


def server_hello(version: int | None = 0x0304, cipher: int = 0x1301, alpn: bytes = b"") -> bytes:
    """A ServerHello in one record; `version` None: TLS 1.2, which has no supported_versions."""
    found = b"" if version is None else extension(43, _word(version))
    if alpn:
        found += _alpn(alpn)
    return record(
        handshake(2, b"\3\3" + b"R" * 32 + b"\0" + _word(cipher) + b"\0" + _word(len(found)) + found)
    )
