"""Read the bodies of backend messages and say what they are. Source: PostgreSQL manual, "Message Formats"."""

from typing import Final

from mypy_extensions import i64

from mirror_audit.octets import find_zero, i32_at, u16_at, u32_at
from mirror_audit.pgwire.listener import Listener
from mirror_audit.pgwire.startup import key_digest

__all__ = ["BackendReader"]

_METHODS: Final = {
    2: b"kerberos_v5",
    3: b"cleartext_password",
    5: b"md5_password",
    6: b"scm_credential",
    7: b"gss",
    9: b"sspi",
    10: b"sasl",
}
MAX_UNSUPPORTED_OPTIONS: Final = 64


class BackendReader:
    """Calls the listener for each message of a server."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.mechanisms = b""  # of an AuthenticationSASL, each with a zero byte behind it

    def read(self, kind: i64, buf: bytes, start: i64, end: i64) -> bool:
        """The body buf[start:end] of a message of type `kind`. False if it does not parse."""
        listener = self.listener
        if kind == 0x5A:  # Z
            status: i64 = buf[start]
            if status != 0x49 and status != 0x54 and status != 0x45:
                return False
            listener.ready_for_query(status)
        elif kind == 0x43:  # C
            stop: i64 = find_zero(buf, start, end)
            if stop < 0:
                return False
            listener.command_complete(buf, start, stop)
        elif kind == 0x32:  # 2
            listener.bind_complete()
        elif kind == 0x31:  # 1
            listener.parse_complete()
        elif kind == 0x54:  # T, without its body
            listener.row_description()
        elif kind == 0x6E:  # n
            listener.no_data()
        elif kind == 0x74:  # t
            if end - start < 2 or u16_at(buf, start) * 4 + 2 > end - start:
                return False
            listener.parameter_description(buf[start + 2 : start + 2 + u16_at(buf, start) * 4])
        elif kind == 0x45:  # E
            listener.error_response(buf, start, end)
        elif kind == 0x33:  # 3
            listener.close_complete()
        elif kind == 0x73:  # s
            listener.portal_suspended()
        elif kind == 0x49:  # I
            listener.empty_query_response()
        elif kind == 0x4E:  # N
            listener.notice_response(buf, start, end)
        elif kind == 0x53:  # S
            stop = find_zero(buf, start, end)
            if stop < 0:
                return False
            value_end: i64 = find_zero(buf, stop + 1, end)
            if value_end < 0:
                return False
            listener.parameter_status(buf[start:stop], buf[stop + 1 : value_end])
        elif kind == 0x41:  # A
            stop = find_zero(buf, start + 4, end)
            if stop < 0:
                return False
            listener.notification_response(i32_at(buf, start), buf[start + 4 : stop])
        elif kind == 0x47:  # G
            listener.copy_in_response()
        elif kind == 0x48:  # H
            listener.copy_out_response()
        elif kind == 0x57:  # W
            listener.copy_both_response()
        elif kind == 0x56:  # V, without its body
            listener.function_call_response()
        else:
            return self._read_startup(kind, buf, start, end)
        return True

    def read_damaged(self, kind: i64, buf: bytes, start: i64, end: i64) -> None:
        """A message that lost its end: tell it if what is left still says what matters."""
        if kind == 0x45:
            # The first fields of an error are its severity and SQLSTATE.
            self.listener.error_response(buf, start, end)
        elif kind == 0x47 or kind == 0x48 or kind == 0x57:  # G, H, W: that it came is all that matters
            self.read(kind, buf, start, end)

    def _read_startup(self, kind: i64, buf: bytes, start: i64, end: i64) -> bool:
        listener = self.listener
        if kind == 0x52:  # R
            if end - start < 4:
                return False
            code: i64 = u32_at(buf, start)
            if code == 0:
                listener.authentication_ok()
            elif code != 8 and code != 11 and code != 12:
                method = _METHODS.get(int(code))
                if method is None:
                    method = b"method_" + str(int(code)).encode()
                if code == 10:
                    self.mechanisms = buf[start + 4 : end]
                listener.authentication_request(method)
        elif kind == 0x4B:  # K
            if end - start < 4:
                return False
            process: i64 = i32_at(buf, start)
            listener.backend_key_data(process, key_digest(process, buf[start + 4 : end]))
        elif kind == 0x76:  # v
            if end - start < 8:
                return False
            minor: i64 = u32_at(buf, start) & 0xFFFF
            options: list[bytes] = []
            at: i64 = start + 8
            while at < end and len(options) < MAX_UNSUPPORTED_OPTIONS:
                stop: i64 = find_zero(buf, at, end)
                if stop < 0:
                    break
                options.append(buf[at:stop])
                at = stop + 1
            listener.negotiate_protocol_version(minor, options)
        return True
