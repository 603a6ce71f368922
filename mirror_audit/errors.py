"""The errors of mirror_audit: one root, and what each branch means for the caller.

::

    MirrorAuditError
    ├── ConfigError         an option, a setting or a combination of them cannot be used
    ├── CaptureError        a capture file cannot be read, or not to its end
    ├── RecordError         a line is not a record of this schema
    └── SinkError           a destination for records cannot be opened or written

Bytes from the network never raise: whatever a peer sent, the observer counts it, says so in a record and
goes on. Anything else that escapes from the library is a bug; please report it.
"""

__all__ = ["CaptureError", "ConfigError", "MirrorAuditError", "RecordError", "SinkError"]


class MirrorAuditError(Exception):
    """The root of every error that mirror_audit raises on purpose."""


class ConfigError(MirrorAuditError):
    """An option, a setting or a combination of them cannot be used."""


class CaptureError(MirrorAuditError):
    """A capture file cannot be read, or is damaged from some point on.

    `source` is the file's name as the user gave it, `offset` the byte in the (decompressed) file and
    `packet` the number of the last whole packet before the damage, counted from 1 (0: none).
    """

    def __init__(self, source: str, reason: str, offset: int = 0, packet: int = 0) -> None:
        super().__init__(f"{source}: {reason} (byte {offset}, after packet {packet})")
        self.source = source
        self.reason = reason
        self.offset = offset
        self.packet = packet


class RecordError(MirrorAuditError):
    """A line is not a record of a schema version that this library knows."""


class SinkError(MirrorAuditError):
    """A destination for records cannot be opened or written."""
