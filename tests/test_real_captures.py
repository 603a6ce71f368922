"""Captures that others made: real clients and servers, other protocols on our port, and a real AWS mirror.

The captures are not in the repository; their INDEX.md says what is in each, counted with tshark. Where tshark
is installed it is asked again, for the texts.
"""

import json
import re
import subprocess
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

from mirror_audit.capture.files import open_capture
from mirror_audit.capture.frames import FrameSink
from mirror_audit.config import Settings
from mirror_audit.errors import CaptureError
from mirror_audit.pipeline import Pipeline
from tests.require import require, require_program
from tests.support.feeding import Body, check
from tests.support.packets import vxlan_wrap

FOLDER = Path(__file__).resolve().parents[1].parent / "shared" / "pcaps"
FILES = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.pcap*") if path.is_file())
require(FILES, f"no captures in {FOLDER}")

# The file itself ends in the middle of a packet.
DAMAGED = {"suricata-verify/pgsql-5000-query-results.pcap"}
# Cut out of the middle of a connection, or no PostgreSQL by its first bytes: nobody vouches for the rest.
NO_BEGINNING = {
    "deepflow/error.pcap",
    "deepflow/prepare_stat.pcap",
    "deepflow/simple_query.pcap",
    "zeek/bad-startup-message-1.pcap",
}
PORTS = {"ndpi/pgsql2.pcapng": (60102,), "zeek/vxlan-overlapping-http-get.pcap": (80,)}

Statement = tuple[str | None, str, str | None, int | None, str | None]
# text, outcome, tag, rows, SQLSTATE
STATEMENTS: dict[str, list[Statement]] = {
    "suricata-verify/pgsql-5000-query-results.pcap": [
        ("select * from rule limit 5000;", "ok", "SELECT 5000", 5000, None),
    ],
    "suricata-verify/pgsql-bug-5579.pcap": [
        (
            (
                "SELECT password FROM accounts WHERE username = 'test' OR 1 = '1' "
                "UNION SELECT username FROM accounts"
            ),
            "ok",
            "SELECT 4",
            4,
            None,
        ),
    ],
    "suricata-verify/pgsql-cancel-request.pcap": [("select pg_sleep(9)", "error", None, None, "57014")],
    "suricata-verify/pgsql-copy-data-in.pcap": [("COPY tmp FROM STDIN", "ok", "COPY 5", 5, None)],
    "suricata-verify/pgsql-copy-data-out.pcap": [
        (
            "COPY (SELECT * FROM rules WHERE source = 'tgreen/hunting' LIMIT 5) TO STDOUT",
            "ok",
            "COPY 5",
            5,
            None,
        ),
    ],
    "suricata-verify/pgsql-query-keyword-01.pcap": [
        ("LISTEN rules;", "ok", "LISTEN", None, None),
        ("SELECT 1;", "ok", "SELECT 1", 1, None),
    ],
    "suricata-verify/pgsql-ssl-rejected-md5-auth-simple-query.pcap": [
        ("select * from rules where sid = 2021701;", "ok", "SELECT 3", 3, None),
    ],
    "zeek/psql-aws-ssl-disable.pcap": [("select now()", "ok", "SELECT 1", 1, None)],
    "zeek/psql-insert-fail-drop-fail.pcap": [
        ("DROP TABLE IF EXISTS t;", "ok", "DROP TABLE", None, None),
        ("CREATE TABLE IF NOT EXISTS t (i int, s varchar, t time);", "ok", "CREATE TABLE", None, None),
        ("INSERT INTO t VALUES (now(), now(), now());", "error", None, None, "42804"),
        ("DROP TABLE t;", "ok", "DROP TABLE", None, None),
        ("DROP TABLE t;", "error", None, None, "42P01"),
    ],
    "zeek/psql-select-now.pcap": [("select now()", "ok", "SELECT 1", 1, None)],
}
# version, SNI, how it began
ENCRYPTED = {
    "ndpi/pgsql2.pcapng": ("TLSv1.3", None, "requested"),
    "suricata-verify/pgsql-upgrade-tls.pcap": ("TLSv1.2", None, "requested"),
    "zeek/psql-aws-ssl-preferred.pcap": (
        "TLSv1.2",
        "database-1.cyx4x7yvdoay.us-east-1.rds.amazonaws.com",
        "requested",
    ),
    "zeek/psql-aws-ssl-require.pcap": (
        "TLSv1.2",
        "database-1.cyx4x7yvdoay.us-east-1.rds.amazonaws.com",
        "requested",
    ),
}
NOT_POSTGRESQL = {
    "zeek/http-on-port-5432.pcap": "not_postgresql",
    "zeek/mysql-on-port-5432.pcap": "server_spoke_first",
    "zeek/bad-startup-message-1.pcap": "not_postgresql",
    "suricata-verify/pgsql-events.pcap": "not_postgresql",
}

Frame = tuple[bytes, int, int, int]  # bytes, wire length, link type, time


class Frames(FrameSink):
    """Keeps the frames."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []

    def frame(self, buf: bytes, start: int, end: int, wire_length: int, link_type: int, time: int) -> None:
        self.frames.append((buf[start:end], wire_length, link_type, time))


@cache
def frames_of(name: str) -> list[Frame]:
    """The frames of a capture, up to where it is damaged."""
    sink = Frames()
    try:
        with open_capture(str(FOLDER / name)) as capture:
            while capture.read_block(sink):
                pass
    except CaptureError:
        assert name in DAMAGED
    return sink.frames


def replay(name: str, frames: Sequence[Frame] | None = None) -> tuple[list[bytes], dict[str, int]]:
    """The lines and the counters."""
    batches: list[bytes] = []
    settings = Settings(redact="none", server_ports=PORTS.get(name, (5432,)))
    pipeline = Pipeline(settings, batches.append)
    for data, wire_length, link_type, time in frames_of(name) if frames is None else frames:
        pipeline.frames.frame(data, 0, len(data), wire_length, link_type, time)
    pipeline.close()
    return b"".join(batches).splitlines(), pipeline.counters()


def records(name: str, kind: str | None = None) -> list[Body]:
    found = [json.loads(line) for line in replay(name)[0]]
    return found if kind is None else [record[kind] for record in found if record["kind"] == kind]


@pytest.mark.parametrize("name", FILES)
def test_every_record_is_sound(name: str) -> None:
    lines, counters = replay(name)
    for line in lines:
        check(line)
    assert counters["packets"] == len(frames_of(name))
    assert counters["records"] == len(lines)
    if counters["tcp_segments"] == counters["dropped_other_port"]:
        assert lines == []


@pytest.mark.parametrize("name", FILES)
def test_statements(name: str) -> None:
    found = [
        (body["text"], body["outcome"], body["command_tag"], body["rows"], body["sqlstate"])
        for body in records(name, "statement")
    ]
    assert found == STATEMENTS.get(name, [])
    assert all(body["coverage"]["complete"] for body in records(name, "statement"))


def index() -> dict[str, Counter[str]]:
    """What INDEX.md counts: file to {"Q": 2, "E": 1, ...}."""
    text = (FOLDER / "INDEX.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\S+\.pcap\w*) \|.*?(?:\[([^]]*)\])? \|$", text, re.MULTILINE)
    counts = {}
    for name, found in rows:
        counts[name] = Counter({kind: int(n) for kind, n in re.findall(r"(\w+)x(\d+)", found)})
    return counts


def test_index_lists_all_captures() -> None:
    assert set(index()) == set(FILES)


@pytest.mark.parametrize("name", [name for name in FILES if name not in NO_BEGINNING])
def test_messages_as_the_index_counts_them(name: str) -> None:
    counted = index()[name]
    found = records(name)
    statements = [record["statement"] for record in found if record["kind"] == "statement"]
    assert len(statements) == counted["Q"] + counted["P"]
    refused = [r for r in found if r["kind"] == "login_failed" and r["login_failed"]["sqlstate"]]
    assert sum(body["sqlstate"] is not None for body in statements) + len(refused) == counted["E"]
    rows = sum(body["rows"] or 0 for body in statements if body["copy"] is None)
    assert rows == counted["D"]
    assert sum(record["kind"] == "cancel_request" for record in found) == counted["Cancel"]


@pytest.mark.parametrize("name", [name for name in FILES if name not in NO_BEGINNING])
def test_texts_as_tshark_reads_them(name: str) -> None:
    tshark = require_program("tshark")
    command = [tshark, "-r", str(FOLDER / name), "-Y", "pgsql.query", "-T", "fields", "-e", "pgsql.query"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    # Of a damaged file tshark gives what it can and complains; else it must succeed.
    assert result.returncode == 0 or name in DAMAGED
    assert [body["text"] for body in records(name, "statement")] == result.stdout.splitlines()


def test_real_aws_mirror_holds_no_postgresql() -> None:
    lines, counters = replay("suricata-verify/vxlan-decoder-03.pcap")
    assert lines == []
    dropped = {name: n for name, n in counters.items() if name.startswith("dropped_") and n}
    assert set(dropped) == {"dropped_not_tcp", "dropped_other_port"}
    assert counters["vxlan_packets"] == counters["packets"] == sum(dropped.values()) == 100


def test_same_addresses_in_three_networks_are_three_connections() -> None:
    name = "zeek/vxlan-overlapping-http-get.pcap"
    assert replay(name)[1]["flows"] == 3
    ends = [record for record in records(name) if record["kind"] == "session_end"]
    assert {(end["network"], end["vni"]) for end in ends} == {
        ("default", None),
        ("vni-4242", 4242),
        ("vni-4711", 4711),
    }
    assert len({(end["client_address"], end["client_port"], end["server_address"]) for end in ends}) == 1
    assert len({end["session_id"] for end in ends}) == 3
    assert len(records(name, "undecodable")) == 3


@pytest.mark.parametrize("name", NOT_POSTGRESQL)
def test_other_protocols_are_undecodable(name: str) -> None:
    found = records(name)
    assert [record["kind"] for record in found] == ["undecodable", "session_end"]
    assert found[0]["undecodable"]["reason"] == NOT_POSTGRESQL[name]


@pytest.mark.parametrize("name", FILES)
def test_encrypted_sessions(name: str) -> None:
    found = [
        (body["version"], body["server_name"], body["negotiation"])
        for body in records(name, "encrypted_session")
    ]
    assert found == ([ENCRYPTED[name]] if name in ENCRYPTED else [])


@pytest.mark.parametrize("name", sorted(NO_BEGINNING - {"zeek/bad-startup-message-1.pcap"}))
def test_joined_in_the_middle(name: str) -> None:
    """Two packets of a connection: what they hold is not told as statements, and that it is not is told."""
    kinds = [record["kind"] for record in records(name)]
    assert kinds == ["session_start", "undecodable", "undecodable", "session_end"]
    assert records(name, "session_start")[0]["joined"] == "mid_stream"


@pytest.mark.parametrize("name", FILES)
def test_copied_by_two_mirror_sessions(name: str) -> None:
    twice = [copy for frame in frames_of(name) for copy in (frame, frame)]
    assert replay(name, twice)[0] == replay(name)[0]


@pytest.mark.parametrize("name", FILES)
def test_inside_vxlan(name: str) -> None:
    """None of the captures holds PostgreSQL in VXLAN: a mirror of the same packets must tell the same."""
    mirrored = []
    for data, _, link_type, time in frames_of(name):
        if link_type != 1:
            # From the IP packet on; all of these are IPv4.
            start = {0: 4, 12: 0, 101: 0, 113: 16, 228: 0, 276: 20}[link_type]
            data = bytes(12) + b"\x08\x00" + data[start:]
        if len(data) <= 65_000:
            mirrored.append((vxlan_wrap(data, 7), 0, 1, time))
    if len(mirrored) < len(frames_of(name)):
        assert name == "suricata-verify/pgsql-5000-query-results.pcap", "only there are superframes"
        return
    plain = records(name)
    wrapped = [json.loads(line) for line in replay(name, mirrored)[0]]
    assert [record["kind"] for record in wrapped] == [record["kind"] for record in plain]
    for inner, outer in zip(plain, wrapped, strict=True):
        expected = "vni-7" if inner["network"] == "default" else f"vni-7/{inner['network']}"
        assert outer["network"] == (None if inner["network"] is None else expected)
        if inner["kind"] != "cancel_request":  # it names the session that it aims at
            assert outer[outer["kind"]] == inner[inner["kind"]]
