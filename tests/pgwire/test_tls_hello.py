"""What a TLS handshake says in clear."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror_audit.pgwire.tls_hello import MAX_HELLO, HelloReader, cipher_name, version_name
from tests.pgwire.tls import client_hello, extension, handshake, record, server_hello

FULL_CLIENT = client_hello(server_name=b"db.example.com", alpn=b"postgresql")
FULL_SERVER = server_hello(version=0x0304, cipher=0x1302, alpn=b"postgresql")


def read(*pieces: bytes) -> HelloReader:
    reader = HelloReader()
    for piece in pieces:
        reader.feed(piece)
    return reader


@pytest.mark.parametrize("step", [1, 2, 5, 50, 10_000])
def test_client_hello(step: int) -> None:
    reader = read(*(FULL_CLIENT[i : i + step] for i in range(0, len(FULL_CLIENT), step)))
    assert reader.done
    assert reader.found
    assert (reader.server_name, reader.alpn) == (b"db.example.com", b"postgresql")


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_server_hello(step: int) -> None:
    data = FULL_SERVER + record(b"\x0b\0\0\1x")
    reader = read(*(data[i : i + step] for i in range(0, len(data), step)))
    assert reader.found
    assert (reader.version, reader.cipher, reader.alpn) == (0x0304, 0x1302, b"postgresql")


def test_handshake_message_in_several_records() -> None:
    message = FULL_CLIENT[5:]
    split = b"".join(record(message[i : i + 20]) for i in range(0, len(message), 20))
    reader = read(split)
    assert reader.found
    assert reader.server_name == b"db.example.com"


def test_version_1_2_has_no_supported_versions() -> None:
    reader = read(server_hello(version=None, cipher=0xC02F))
    assert (reader.version, reader.cipher) == (0x0303, 0xC02F)


def test_hello_without_extensions() -> None:
    reader = read(client_hello(extensions=None))
    assert reader.found
    assert (reader.server_name, reader.alpn) == (b"", b"")


def test_a_name_that_is_no_host_name_is_passed_over() -> None:
    reader = read(client_hello(extensions=extension(0, b"\0\6\7\0\3abc")))
    assert reader.found
    assert reader.server_name == b""


@pytest.mark.parametrize(
    "data",
    [
        b"\x15\3\3\0\2\2\x28",  # an alert
        b"\0\0\0\x08",
        record(handshake(11, b"x" * 50)),  # a certificate
        record(handshake(1, b"\3\3")),  # ends early
        record(handshake(1, b"\3\3" + b"r" * 32 + b"\xff")),
    ],
)
def test_nothing_to_be_found(data: bytes) -> None:
    reader = read(data)
    assert reader.done
    assert not reader.found


def test_an_endless_hello_is_given_up() -> None:
    reader = HelloReader()
    endless = b"".join(record(b"\1\xff\xff\xff" if i == 0 else b"x" * 4000) for i in range(10))
    for i in range(0, len(endless), 1000):
        reader.feed(endless[i : i + 1000])
    assert reader.done
    assert not reader.found
    assert MAX_HELLO < 20_000


def test_names() -> None:
    assert version_name(0x0304) == "TLSv1.3"
    assert version_name(0x7F1C) == "0x7f1c"
    assert cipher_name(0x1301) == "TLS_AES_128_GCM_SHA256"
    assert cipher_name(0x00FF) == "0x00ff"


@given(st.lists(st.binary(max_size=100), max_size=5))
def test_any_bytes_are_taken(pieces: list[bytes]) -> None:
    read(*pieces)
    read(b"\x16\3\1", *pieces)


@given(st.integers(0, len(FULL_CLIENT) - 1), st.integers(0, 255))
def test_any_changed_byte_is_taken(at: int, value: int) -> None:
    for data in (FULL_CLIENT, FULL_SERVER):
        changed = bytearray(data)
        changed[at % len(changed)] = value
        read(bytes(changed), b"x" * 100)
