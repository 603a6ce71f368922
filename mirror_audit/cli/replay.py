"""`mirror-audit replay`: captures in, records out."""

import gc
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from re import Pattern
from typing import Any, cast, get_args

import click

from mirror_audit.audit.record import Kind
from mirror_audit.cli.options import duration, network, read_key, regex, server_port, utc_time
from mirror_audit.cli.progress import Progress, summary
from mirror_audit.config import Limits, Redact, Settings
from mirror_audit.errors import CaptureError, ConfigError
from mirror_audit.pipeline import Pipeline
from mirror_audit.replay import expand, read_captures
from mirror_audit.sinks import filters
from mirror_audit.sinks.jsonl import JsonlSink, OutputClosedError, Sink, silence_stdout
from mirror_audit.sinks.table import TableSink, printable, terminal_width, wants_colour

__all__ = ["replay"]


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option(
    "--output",
    type=click.Choice(["table", "jsonl", "none"]),
    help="What goes to standard output. Default: table on a terminal, else jsonl.",
)
@click.option("--write", "write_to", metavar="FILE", help="Write the records to FILE too, as JSON lines.")
@click.option(
    "--user", "users", multiple=True, metavar="NAME", help="Only sessions of this user.  [repeatable]"
)
@click.option(
    "--database", "databases", multiple=True, metavar="NAME", help="Only this database.  [repeatable]"
)
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice(get_args(Kind)),
    metavar="KIND",
    help="Only records of this kind, such as statement.  [repeatable]",
)
@click.option(
    "--since",
    type=utc_time,
    metavar="TIME",
    help="Only records from this time on; UTC unless it names a zone.",
)
@click.option("--until", type=utc_time, metavar="TIME", help="Only records before this time.")
@click.option(
    "--errors-only", is_flag=True, help="Only failed statements, refused logins, sessions ended by an error."
)
@click.option(
    "--grep", type=regex, metavar="REGEX", help="Only records whose SQL text or error message matches."
)
@click.option(
    "--server-port",
    "server_ports",
    multiple=True,
    type=server_port,
    metavar="PORT|auto",
    help="TCP port of a server; auto: recognise PostgreSQL on any port.  [repeatable; default: 5432]",
)
@click.option(
    "--vxlan-port",
    "vxlan_ports",
    multiple=True,
    type=click.IntRange(1, 65535),
    metavar="PORT",
    help="UDP port of VXLAN.  [repeatable; default: 4789]",
)
@click.option(
    "--network",
    "networks",
    multiple=True,
    type=network,
    metavar="NAME=VNI,...",
    help="Name the network of these VNIs.  [repeatable]",
)
@click.option(
    "--redact",
    type=click.Choice(get_args(Redact)),
    default="secrets",
    show_default=True,
    help="Keep out of the records: passwords and keys; all literals and parameter values; nothing.",
)
@click.option(
    "--redact-key-file",
    metavar="FILE",
    help="Replace redacted parameter values by their HMAC under the key in FILE (at least 16 bytes).",
)
@click.option(
    "--reorder-grace",
    type=duration,
    default="200ms",
    show_default=True,
    help="How long to wait for a missing TCP segment, in the capture's time.",
)
@click.option(
    "--progress-interval",
    type=duration,
    default="10s",
    show_default=True,
    help="Time between records of a statement that is still running; 0: none.",
)
@click.option(
    "--trust-first-segment",
    is_flag=True,
    help="In connections joined midway, take the first segment for the start of a message.",
)
@click.option(
    "--max-flows",
    type=click.IntRange(min=1),
    default=Limits().max_flows,
    show_default=True,
    help="TCP connections to follow at once.",
)
@click.option("-q", "--quiet", is_flag=True, help="No progress and no summary on standard error.")
def replay(
    files: tuple[str, ...], write_to: str | None, output: str | None, quiet: bool, **options: Any
) -> int:
    """Read captures and give the audit records in them.

    FILE is a pcap or pcapng capture, plain or compressed with gzip or zstd, a glob pattern, or - for standard
    input. All files are one stream: a session may begin in one and end in the next. Bad files are reported
    and skipped.
    """
    settings = _settings(options)
    predicates = _predicates(options)
    paths = expand(files)
    if write_to is not None:
        _check_not_an_input(write_to, paths)
    on_terminal = sys.stdout.isatty()
    output = output or ("table" if on_terminal else "jsonl")
    outputs = _Outputs(predicates)
    if write_to is not None:
        outputs.add(JsonlSink.open(write_to))
    if output == "table":
        outputs.add(TableSink(sys.stdout, terminal_width(), wants_colour(sys.stdout)))
    elif output == "jsonl":
        outputs.add(JsonlSink.stdout())
    progress = None
    if not quiet and sys.stderr.isatty() and not (on_terminal and output != "none"):
        progress = Progress(sys.stderr, terminal_width())
    try:
        return _run(paths, settings, outputs, progress, quiet)
    finally:
        outputs.close()


def _run(
    paths: list[str], settings: Settings, outputs: "_Outputs", progress: Progress | None, quiet: bool
) -> int:
    start = time.monotonic()
    # Records make no reference cycles; looking for some every 700 objects costs a tenth of the time.
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)
    pipeline = Pipeline(settings, outputs.write)
    bad_files = 0
    with _interruptible() as interrupted:
        for step in read_captures(paths, pipeline):
            if isinstance(step, CaptureError):
                bad_files += 1
                if progress is not None:
                    progress.clear()
                click.echo(f"mirror-audit: {_sentence(step)}", err=True)
            elif progress is not None:
                progress.update(step)
            if interrupted.is_set():
                break
        pipeline.close()
    if progress is not None:
        progress.clear()
    if not quiet:
        click.echo(summary(pipeline.counters(), time.monotonic() - start), err=True)
    if interrupted.is_set():
        return 130
    return 2 if bad_files else 0


class _Outputs:
    """All destinations of the records; a standard output that its reader closed is no longer one."""

    def __init__(self, predicates: Sequence[filters.Predicate]) -> None:
        self._predicates = predicates
        self._sinks: list[Sink] = []

    def add(self, sink: Sink) -> None:
        """One more destination."""
        self._sinks.append(filters.FilterSink(self._predicates, sink) if self._predicates else sink)

    def write(self, batch: bytes) -> None:
        """Write to all. Raises SinkError; OutputClosedError if nobody is left to write to."""
        for sink in self._sinks[:]:
            try:
                sink.write(batch)
            except OutputClosedError:
                # What its buffer still holds must not be tried again when the program ends.
                silence_stdout()
                self._sinks.remove(sink)
                if not self._sinks:
                    raise

    def close(self) -> None:
        """Close all."""
        for sink in self._sinks:
            sink.close()


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Ctrl-C sets the event, so that the loop ends between two blocks with whole records; twice: at once."""
    event = threading.Event()
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is not signal.default_int_handler:
        yield event
        return

    def handler(number: int, frame: object) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()

    signal.signal(signal.SIGINT, handler)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)


def _settings(options: dict[str, Any]) -> Settings:
    ports: tuple[int | None, ...] = options["server_ports"]
    numbers = tuple(port for port in ports if port is not None)
    networks: dict[int, str] = {}
    for name, vnis in options["networks"]:
        for vni in vnis:
            if networks.setdefault(vni, name) != name:
                raise ConfigError(f"--network names VNI {vni} twice: {networks[vni]} and {name}")
    key_file: str | None = options["redact_key_file"]
    defaults = Settings()
    return replace(
        defaults,
        server_ports=numbers or defaults.server_ports,
        auto_ports=None in ports,
        vxlan_ports=options["vxlan_ports"] or defaults.vxlan_ports,
        networks=networks,
        redact=cast(Redact, options["redact"]),
        redact_key=None if key_file is None else read_key(key_file),
        trust_first_segment=options["trust_first_segment"],
        limits=Limits(
            reorder_grace_us=options["reorder_grace"],
            progress_interval_us=options["progress_interval"],
            max_flows=options["max_flows"],
        ),
    )


def _predicates(options: dict[str, Any]) -> list[filters.Predicate]:
    predicates: list[filters.Predicate] = []
    since: datetime | None = options["since"]
    until: datetime | None = options["until"]
    pattern: Pattern[str] | None = options["grep"]
    if options["kinds"]:
        predicates.append(filters.by_kind(frozenset(options["kinds"])))
    if since is not None or until is not None:
        predicates.append(filters.by_time(since, until))
    if options["users"]:
        predicates.append(filters.by_user(frozenset(options["users"])))
    if options["databases"]:
        predicates.append(filters.by_database(frozenset(options["databases"])))
    if options["errors_only"]:
        predicates.append(filters.errors_only)
    if pattern is not None:
        predicates.append(filters.by_text(pattern))
    return predicates


def _check_not_an_input(write_to: str, paths: list[str]) -> None:
    target = Path(write_to)
    for path in paths:
        if path != "-" and target.exists() and Path(path).exists() and target.samefile(path):
            raise ConfigError(f"--write {write_to} would destroy a capture that is to be read")


def _sentence(error: CaptureError) -> str:
    where = ""
    if error.packet or error.offset:
        noun = "packet" if error.packet == 1 else "packets"
        where = f" at byte {error.offset}, after {error.packet} whole {noun}"
    return printable(f"{error.source}: {error.reason}{where}")
