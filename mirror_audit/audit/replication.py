"""The commands of replication connections, which are no SQL (PostgreSQL manual, 54.4)."""

from typing import Final

__all__ = ["is_replication_command", "mode_and_slot"]

# SHOW is the only command there that is SQL as well.
_COMMANDS: Final = (
    b"ALTER_REPLICATION_SLOT",
    b"BASE_BACKUP",
    b"CREATE_REPLICATION_SLOT",
    b"DROP_REPLICATION_SLOT",
    b"IDENTIFY_SYSTEM",
    b"READ_REPLICATION_SLOT",
    b"START_REPLICATION",
    b"TIMELINE_HISTORY",
    b"UPLOAD_MANIFEST",
)


def is_replication_command(text: bytes) -> bool:
    """True if `text` begins like one; SHOW is left to the SQL parser."""
    words = text[:64].replace(b";", b" ").replace(b"(", b" ").split()
    return len(words) > 0 and words[0].upper() in _COMMANDS


def mode_and_slot(text: bytes) -> tuple[bytes | None, bytes | None]:
    """Of START_REPLICATION [SLOT name] [PHYSICAL] position, or SLOT name LOGICAL position; None: not told."""
    words = text.split()
    if len(words) == 0 or words[0].upper() != b"START_REPLICATION":
        return None, None
    mode = b"physical"
    slot: bytes | None = None
    at = 1
    while at < len(words):
        word = words[at].upper()
        if word == b"SLOT" and at + 1 < len(words):
            slot = words[at + 1].strip(b'"')
            at += 1
        elif word == b"LOGICAL":
            mode = b"logical"
            break
        at += 1
    return mode, slot
