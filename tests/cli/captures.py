"""Small captures for the tests of commands: one session each, known to the last record."""

from collections.abc import Iterable
from pathlib import Path

from tests.support import pgmsg
from tests.support.wrap import Frame, TcpTrace, pcap_bytes

__all__ = ["login_and_error", "session", "write"]


def session(port: int = 40000, server_port: int = 5432, user: str = "app") -> TcpTrace:
    """Login, `SELECT 1`, Terminate."""
    trace = TcpTrace(client=("10.0.1.10", port), server=("10.0.2.20", server_port))
    trace.open()
    trace.client(pgmsg.startup(user, "shop"))
    trace.server(pgmsg.login())
    trace.client(pgmsg.query("SELECT 1"))
    trace.server(
        pgmsg.row_description() + pgmsg.data_row("1") + pgmsg.command_complete("SELECT 1") + pgmsg.ready()
    )
    trace.client(pgmsg.terminate())
    trace.close()
    return trace


def login_and_error(user: str = "eve") -> TcpTrace:
    """Login, a statement that fails, Terminate; a minute after `session`."""
    trace = TcpTrace(client=("10.0.1.11", 41000))
    trace.wait(60_000_000)
    trace.open()
    trace.client(pgmsg.startup(user, "books"))
    trace.server(pgmsg.login())
    trace.client(pgmsg.query('DROP TABLE "\x1b[2Jorders"'))
    trace.server(pgmsg.error("permission denied", "42501") + pgmsg.ready())
    trace.client(pgmsg.terminate())
    trace.close()
    return trace


def write(path: Path, frames: Iterable[Frame]) -> Path:
    """Write a pcap file; returns its path."""
    path.write_bytes(pcap_bytes(frames))
    return path
