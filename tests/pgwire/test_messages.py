"""The length rules: one row for each type of the manual's chapter "Message Formats"."""

import pytest

from mirror_audit.pgwire import messages
from mirror_audit.pgwire.messages import BACKEND_RULES, FRONTEND_RULES
from tests.pgwire.recorder import Call, c, run, s
from tests.support import pgmsg

OPENED = (c(pgmsg.startup()), s(pgmsg.login()))
BEFORE = len(run(*OPENED).recorder.calls)
IMPOSSIBLE_CLIENT: Call = ("lost", 0, b"impossible_length")
IMPOSSIBLE_SERVER: Call = ("lost", 1, b"impossible_length")

SMALL, MEDIUM, LARGE = 10_004, 65_540, 0x3FFFFFFF + 4
FRONTEND = {"B": LARGE, "C": SMALL, "D": SMALL, "E": SMALL, "F": LARGE, "H": SMALL, "P": LARGE, "Q": LARGE}
FRONTEND |= {"S": SMALL, "X": SMALL, "c": SMALL, "d": LARGE, "f": SMALL, "p": MEDIUM}
BACKEND = dict.fromkeys("123Icns", 4) | {"Z": 5} | dict.fromkeys("CGHKRSWv", MEDIUM)
BACKEND |= dict.fromkeys("ADENTVdt", LARGE)


def lost(direction: int, kind: str, length: int) -> bool:
    """Whether a header alone makes its direction lost."""
    header = pgmsg.message(kind, length=length)
    wire = run(*OPENED, c(header) if direction == 0 else s(header))
    calls = wire.recorder.calls[BEFORE:]
    impossible = IMPOSSIBLE_CLIENT if direction == 0 else IMPOSSIBLE_SERVER
    if impossible in calls:
        assert calls == [impossible]
        assert wire.connection.client_lost == (direction == 0)
        assert wire.connection.server_lost == (direction == 1)
        return True
    return False


@pytest.mark.parametrize(("kind", "largest"), sorted(FRONTEND.items()))
def test_frontend_lengths(kind: str, largest: int) -> None:
    assert not lost(0, kind, 4)
    assert not lost(0, kind, largest)
    for length in (-(2**31), -1, 0, 3, largest + 1, 2**31 - 1):
        assert lost(0, kind, length), length


@pytest.mark.parametrize(("kind", "largest"), sorted(BACKEND.items()))
def test_backend_lengths(kind: str, largest: int) -> None:
    smallest = largest if largest <= 5 else 6 if kind == "D" else 4
    assert not lost(1, kind, smallest)
    assert not lost(1, kind, largest)
    for length in (-(2**31), -1, 0, 3, smallest - 1, largest + 1, 2**31 - 1):
        assert lost(1, kind, length), length


def test_every_other_type_is_unknown() -> None:
    for rules, known in ((FRONTEND_RULES, FRONTEND), (BACKEND_RULES, BACKEND)):
        assert len(rules) == 256
        assert {chr(kind) for kind in range(256) if rules[kind] != messages.RULE_UNKNOWN} == set(known)


def test_request_codes() -> None:
    assert messages.CANCEL_REQUEST == (1234 << 16) + 5678
    assert messages.SSL_REQUEST == (1234 << 16) + 5679
    assert messages.GSSENC_REQUEST == (1234 << 16) + 5680


@pytest.mark.parametrize("direction", [0, 1])
def test_unknown_types(direction: int) -> None:
    """A letter or digit is skipped by its length, if that is modest; nothing else ever was a type."""
    rules = BACKEND_RULES if direction else FRONTEND_RULES
    for kind in range(256):
        if rules[kind] != messages.RULE_UNKNOWN:
            continue
        text = chr(kind)
        header = text.isascii() and text.isalnum()
        body = pgmsg.message(bytes([kind]), b"what")
        behind = pgmsg.notice() if direction else pgmsg.sync()
        wire = run(*OPENED, (s if direction else c)(body + behind))
        told = wire.recorder.calls[BEFORE:]
        if header:
            assert [call[0] for call in told] == ["notice_response" if direction else "sync"]
        else:
            assert told == [IMPOSSIBLE_SERVER if direction else IMPOSSIBLE_CLIENT]
    assert lost(direction, "y", (1 << 20) + 1)
    assert not lost(direction, "y", 1 << 20)
