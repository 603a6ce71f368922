"""Audit records of who did what in PostgreSQL, read from captured traffic."""

__version__ = "0.1.0"
