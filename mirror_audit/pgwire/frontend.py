"""Read the bodies of frontend messages, and say what they are (PostgreSQL manual, "Message Formats")."""

from typing import Final

from mypy_extensions import i64

from mirror_audit.octets import find_zero, i32_at, u16_at, u32_at
from mirror_audit.pgwire.listener import Listener

__all__ = ["FrontendReader"]

# Longer names are cut by the server to 63 bytes, but as names of statements they count in full length.
MAX_NAME: Final = 8192


class FrontendReader:
    """Calls the listener for each message of a client."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        # What AuthenticationSASL offered, each with a zero byte behind it: the next `p` names one of them.
        self.mechanisms = b""

    def read(self, kind: i64, buf: bytes, start: i64, end: i64, missing: i64) -> bool:
        """The body buf[start:end] of a message of type `kind`. False if it does not parse."""
        listener = self.listener
        if kind == 0x42:  # B
            return self._bind(buf, start, end, missing)
        if kind == 0x45:  # E
            stop: i64 = find_zero(buf, start, end)
            if stop < 0 or stop + 5 > end:
                return False
            listener.execute(buf[start:stop], i32_at(buf, stop + 1))
        elif kind == 0x53:  # S
            listener.sync()
        elif kind == 0x51:  # Q
            # The server reads up to the first zero byte, and so must we.
            stop = find_zero(buf, start, end)
            if stop < 0:
                if missing == 0:
                    return False
                stop = end
            listener.query(buf, start, stop, missing)
        elif kind == 0x50:  # P
            return self._parse(buf, start, end, missing)
        elif kind == 0x44 or kind == 0x43:  # D, C
            if end - start < 2:
                return False
            what: i64 = buf[start]
            stop = find_zero(buf, start + 1, end)
            if stop < 0 or (what != 0x53 and what != 0x50):
                return False
            if kind == 0x44:
                listener.describe(what == 0x50, buf[start + 1 : stop])
            else:
                listener.close(what == 0x50, buf[start + 1 : stop])
        elif kind == 0x48:  # H
            listener.flush()
        elif kind == 0x63 or kind == 0x66:  # c, f
            listener.copy_done()
        elif kind == 0x58:  # X
            listener.terminate()
        elif kind == 0x70:  # p: a password or a SASL message. Only a mechanism's name leaves this place.
            if len(self.mechanisms) > 0:
                offered = b"\x00" + self.mechanisms
                self.mechanisms = b""
                stop = find_zero(buf, start, end)
                # Nothing else may pass: a client that misunderstood could send its password.
                if stop > start and offered.find(b"\x00" + buf[start : stop + 1]) >= 0:
                    listener.authentication_mechanism(buf[start:stop])
        elif kind == 0x46:  # F
            if end - start < 4:
                return False
            listener.function_call(u32_at(buf, start))
        return True

    def _parse(self, buf: bytes, start: i64, end: i64, missing: i64) -> bool:
        stop: i64 = find_zero(buf, start, end)
        if stop < 0:
            return False
        name = buf[start:stop]
        text: i64 = stop + 1
        stop = find_zero(buf, text, end)
        if stop < 0:
            if missing == 0:
                return False
            self.listener.parse(name, buf, text, end, b"", missing, True)
            return True
        oids = b""
        if missing == 0:
            if stop + 3 > end:
                return False
            count: i64 = u16_at(buf, stop + 1)
            if stop + 3 + count * 4 > end:
                return False
            oids = buf[stop + 3 : stop + 3 + count * 4]
        self.listener.parse(name, buf, text, stop, oids, missing, False)
        return True

    def _bind(self, buf: bytes, start: i64, end: i64, missing: i64) -> bool:
        portal_end: i64 = find_zero(buf, start, end)
        if portal_end < 0:
            return False
        statement_end: i64 = find_zero(buf, portal_end + 1, end)
        if statement_end < 0:
            return False
        self.listener.bind(
            buf[start:portal_end], buf[portal_end + 1 : statement_end], buf[statement_end + 1 : end], missing
        )
        return True


# A name can be as long as the message that holds it; what is stored of it is limited where it is stored.
assert MAX_NAME > 63
