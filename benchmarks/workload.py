"""Make the captures that are measured: real pgbench against a real PostgreSQL, as an AWS mirror delivers it.

    python benchmarks/workload.py [--scale 1.0] [NAME ...]

Loopback is captured with dumpcap (or tcpdump) at full speed; a capture that lost a packet is refused. Then
each frame gets addresses of a network, is cut at an MTU of 1500 and wrapped in VXLAN. Nothing is multiplied:
every statement in a capture was answered by the server. Captures and what is known of them (`NAME.json`)
stay in benchmarks/.cache.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
# Behind everything else: the package that is measured is the one that is installed.
sys.path.append(str(HERE.parent))

from samples.place import Place, find_program, prepare  # noqa: E402
from tests.support.packets import FIN, vxlan_wrap  # noqa: E402
from tests.support.postgres import Server, running, unavailable  # noqa: E402
from tests.support.sniffer import as_network  # noqa: E402
from tests.support.wrap import Frame, pcap_bytes, read_pcap  # noqa: E402

__all__ = ["CACHE", "SCRIPTS", "WORKLOADS", "Part", "cached", "networks_apart"]

CACHE = HERE / ".cache"
VNI = 5569041  # AWS's own, in a capture of a real mirror
CLIENTS = 8
CLIENT_ADDRESSES = ("10.0.1.10", "10.0.1.11", "10.0.1.12")
SERVER = ("10.0.2.20", 5432)
MSS = 1448  # what an MTU of 1500 leaves beside IPv4, TCP and its timestamps
CAPTURE_BUFFER_MIB = 256
# Capture programs hand on what they have a moment later.
DRAIN_SECONDS = 2.0
# A log of every statement would take longer than the statements.
QUIET: dict[str, Any] = {
    "log_statement": "none",
    "log_duration": "off",
    "log_connections": "off",
    "log_disconnections": "off",
}
VNI_OFFSET = 14 + 20 + 8 + 4


@dataclass(frozen=True, slots=True)
class Part:
    """One run of pgbench: its options, the transactions of all clients and the statements in each."""

    name: str
    options: tuple[str, ...]
    transactions: int
    statements: int


# Statements as an application writes them that puts its values into the text. No text comes twice.
SCRIPTS = {
    "search": r"""\set a random(1, 100000)
\set b random(1, 100000)
\set c random(1, 100000)
\set d random(1, 100000)
\set e random(1, 1000000000)
\set f random(-5000, 5000)
select a.aid, a.bid, a.abalance, a.filler, b.bbalance, 'session-:e' as request
  from pgbench_accounts a join pgbench_branches b on b.bid = a.bid
 where a.aid in (:a, :b, :c, :d) and a.abalance between -1000000 + :f and 1000000 + :f
   and a.filler not like 'closed-:e-%' order by a.abalance desc, a.aid limit 20;
""",
    "order": r"""\set a random(1, 100000)
\set t random(1, 10)
\set d random(-5000, 5000)
\set e random(1, 1000000000)
\set f random(1, 1000000000)
insert into pgbench_history (tid, bid, aid, delta, mtime, filler)
values (:t, 1, :a, :d, timestamp '2026-11-23 10:20:30' + interval ':e milliseconds', 'order :e'),
       (:t, 1, :a, -(:d), timestamp '2026-11-23 10:20:30' + interval ':f milliseconds', 'it''s :f')
returning tid, aid, delta;
""",
}

WORKLOADS: dict[str, tuple[Part, ...]] = {
    "main": (
        Part("select_simple", ("-S", "-M", "simple"), 100_000, 1),
        Part("select_prepared", ("-S", "-M", "prepared"), 100_000, 1),
        Part("tpcb_extended", ("-b", "tpcb-like", "-M", "extended"), 20_000, 7),
    ),
    "literals": (
        Part("search", ("-f", "search", "-M", "simple"), 60_000, 1),
        Part("order", ("-f", "order", "-M", "simple"), 60_000, 1),
    ),
}


class LostPacketsError(Exception):
    """The capture is not whole."""


@contextlib.contextmanager
def capturing(port: int, target: Path) -> Iterator[None]:
    """Capture the TCP traffic of loopback port `port` to the pcap file `target` while the block runs."""
    tool = next((name for name in ("dumpcap", "tcpdump") if shutil.which(name)), None)
    if tool is None:
        raise SystemExit("to make the workload, install dumpcap (it comes with tshark) or tcpdump")
    only = f"tcp port {port}"
    command = [tool, "-i", "lo", "-w", str(target)]
    if tool == "dumpcap":
        command += ["-P", "-B", str(CAPTURE_BUFFER_MIB), "-f", only]
    else:
        command += ["--buffer-size", str(CAPTURE_BUFFER_MIB << 10), "-U", *only.split()]
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stderr=said)
        limit = time.monotonic() + 20
        while not target.exists() or target.stat().st_size < 24:
            if process.poll() is not None or time.monotonic() > limit:
                said.seek(0)
                raise SystemExit(f"{tool} does not capture: {said.read()}")
            time.sleep(0.05)
        try:
            yield
            time.sleep(DRAIN_SECONDS)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()
        said.seek(0)
        last = said.read()
    lost = [line for line in last.splitlines() if "dropped" in line]
    # dumpcap: "Packets received/dropped on interface 'lo': 123/0 ..."; tcpdump: "0 packets dropped by kernel"
    whole = [line for line in lost if "/0 " in line or line.startswith("0 packets dropped")]
    if len(lost) != len(whole) or not lost:
        raise LostPacketsError(last)


def bench(place: Place, part: Part, transactions: int, folder: Path) -> None:
    """Run one part with pgbench."""
    options = list(part.options)
    if "-f" in options:
        at = options.index("-f") + 1
        script = folder / f"{part.name}.sql"
        script.write_text(SCRIPTS[options[at]])
        options[at] = str(script)
    counts = ("-c", str(CLIENTS), "-j", "2", "-t", str(transactions // CLIENTS))
    done = subprocess.run(
        [find_program(place, "pgbench"), "-n", *counts, *options],
        env=place.environment("app", "bench", PGAPPNAME="pgbench"),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or "number of failed transactions: 0 " not in done.stdout:
        raise SystemExit(f"pgbench: {done.stderr}{done.stdout}")


def frames_of(server: Server, part: Part, transactions: int, first_port: int) -> list[Frame]:
    """What one part looks like between two machines, not yet in VXLAN."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # dumpcap gives up root before it opens its file
        raw = folder / "raw.pcap"
        for attempt in range(3):
            try:
                with capturing(server.port, raw):
                    bench(Place(server, server.port), part, transactions, folder)
                break
            except LostPacketsError as error:
                print(f"{part.name}: packets lost, once more: {error}", file=sys.stderr)
                if attempt == 2:
                    raise SystemExit("this machine is too busy to capture without loss") from error
        frames = read_pcap(raw.read_bytes(), server.port)
    ends = {"client": 0, "server": 0}
    for frame in frames:
        ends[frame.direction] += frame.flags & FIN
    if min(ends.values()) < CLIENTS:
        raise SystemExit(f"{part.name}: the capture misses the end: {ends}")
    return as_network(
        frames, start=None, server=SERVER, clients=CLIENT_ADDRESSES, first_port=first_port, mss=MSS
    )


def make(name: str, scale: float, target: Path) -> None:
    """Make the workload `name` with all parts' transactions multiplied by `scale`."""
    if reason := unavailable("installed"):
        raise SystemExit(f"to make the workload: {reason}")
    facts: dict[str, Any] = {"name": name, "scale": scale, "made": time.strftime("%Y-%m-%d", time.gmtime())}
    facts["parts"] = []
    statements = transactions = packets = 0
    part_file = target.with_suffix(".part")
    with part_file.open("wb") as out, running("installed", **QUIET) as server:
        facts["server"] = server.psql("show server_version")
        prepare(server, bench=True)
        out.write(pcap_bytes([]))
        for number, part in enumerate(WORKLOADS[name]):
            count = int(part.transactions * scale) // CLIENTS * CLIENTS
            print(f"{name}: {part.name}, {count} transactions", file=sys.stderr)
            for frame in frames_of(server, part, count, 52340 + 1000 * number):
                seconds, micros = divmod(frame.time, 1_000_000)
                data = vxlan_wrap(frame.bytes, VNI)
                size = len(data).to_bytes(4, "little")
                out.write(seconds.to_bytes(4, "little") + micros.to_bytes(4, "little") + size + size)
                out.write(data)
                packets += 1
            transactions += count
            statements += count * part.statements
            facts["parts"].append({"name": part.name, "options": part.options, "transactions": count})
    facts |= {"transactions": transactions, "statements": statements, "packets": packets}
    facts["bytes"] = part_file.stat().st_size
    target.with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n")
    part_file.rename(target)


def cached(name: str, scale: float) -> Path:
    """The capture of workload `name`, made if it is not there (by another process: that takes memory)."""
    CACHE.mkdir(exist_ok=True)
    (CACHE / ".gitignore").write_text("*\n")
    target = CACHE / f"{name}-{scale:g}.pcap"
    if not target.exists():
        command = [sys.executable, str(HERE / "workload.py"), "--scale", str(scale), name]
        if subprocess.run(command, check=False, env=os.environ | {"PYTHONPATH": ""}).returncode:
            raise SystemExit(f"the workload {name} could not be made")
    return target


def networks_apart(source: Path, copies: int, seconds: int = 3600) -> list[Path]:
    """The capture and `copies` - 1 others of it: each in a VNI of its own and some time later.

    No session, statement identifier or time of one comes in another; all checksums stay right, for the outer
    UDP has none.
    """
    paths = [source]
    for number in range(1, copies):
        target = source.with_name(f"{source.stem}-copy{number}.pcap")
        paths.append(target)
        if target.exists() and target.stat().st_mtime >= source.stat().st_mtime:
            continue
        vni = (VNI + number).to_bytes(3, "big")
        with source.open("rb") as capture, target.open("wb") as out:
            out.write(capture.read(24))
            while head := capture.read(16):
                later = int.from_bytes(head[:4], "little") + number * seconds
                frame = capture.read(int.from_bytes(head[8:12], "little"))
                out.write(later.to_bytes(4, "little") + head[4:])
                out.write(frame[:VNI_OFFSET] + vni + frame[VNI_OFFSET + 3 :])
    return paths


def main(arguments: Sequence[str] | None = None) -> None:
    """Make what is asked for anew."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(WORKLOADS)}; default: all")
    parser.add_argument("--scale", type=float, default=1.0, help="multiply the transactions (default: 1.0)")
    chosen = parser.parse_args(arguments)
    CACHE.mkdir(exist_ok=True)
    (CACHE / ".gitignore").write_text("*\n")
    for name in chosen.names or list(WORKLOADS):
        make(name, chosen.scale, CACHE / f"{name}-{chosen.scale:g}.pcap")


if __name__ == "__main__":
    main()
