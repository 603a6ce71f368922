"""Audit records of who did what in PostgreSQL, read from captured traffic."""

from mirror_audit.audit.record import Record
from mirror_audit.config import Limits, Settings
from mirror_audit.errors import CaptureError, ConfigError, MirrorAuditError, RecordError, SinkError
from mirror_audit.replay import replay

__all__ = [
    "CaptureError",
    "ConfigError",
    "Limits",
    "MirrorAuditError",
    "Record",
    "RecordError",
    "Settings",
    "SinkError",
    "__version__",
    "replay",
]

__version__ = "0.1.0"
