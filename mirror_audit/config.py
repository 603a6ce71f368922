"""Every setting and every bound of the program, validated in one place.

`Settings` says what to read and what to keep; `Limits` holds each bound by name, with a default that is safe
for hostile traffic. Both are frozen. Wrong values raise one `ConfigError` that names all of them, so that a
user repairs a command line once and not field by field.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Literal, get_args

from mirror_audit.errors import ConfigError

__all__ = ["Limits", "Redact", "Settings"]

Redact = Literal["secrets", "values", "none"]

_MAX_PORT = 0xFFFF
_MAX_VNI = 0xFFFFFF  # RFC 7348 section 5: the VXLAN Network Identifier has 24 bits
_MIN_KEY_BYTES = 16
_MAY_BE_ZERO = frozenset({"reorder_grace_us", "progress_interval_us"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of memory and of time; all integers, bytes unless the name ends in `_us` or says a count."""

    # TCP connections followed at once; the one silent for longest is closed first.
    max_flows: int = 262_144
    # Microseconds of capture time to wait for a segment that is missing before it is called lost (0: none).
    reorder_grace_us: int = 200_000
    # Bytes of later segments kept, per direction, while an earlier one is missing.
    max_held_bytes: int = 1 << 20
    # The same in segments, against floods of tiny ones.
    max_held_segments: int = 2_048
    # Capture time to wait for missing bytes that nobody has acknowledged: their sender may send them again.
    unacknowledged_hole_us: int = 5_000_000
    # IP datagrams being put together from fragments at once.
    max_fragments: int = 1_024
    # Capture time after which an unfinished datagram is given up.
    fragment_timeout_us: int = 30_000_000
    # Networks (VXLAN network identifiers, and chains of nested ones) told apart.
    max_networks: int = 65_536
    # Capture time after which a silent connection is forgotten: 24 hours.
    idle_timeout_us: int = 86_400_000_000

    # One protocol message kept whole; the rest of a longer one is counted and skipped.
    max_message_bytes: int = 16 << 20
    # All sessions' messages that are only partly there, together.
    max_buffered_bytes: int = 256 << 20
    # Requests sent ahead of their answers, per session.
    max_pending_requests: int = 10_000
    # Prepared statements and portals remembered, per session; the least recently used goes first.
    max_prepared_statements: int = 10_000
    max_portals: int = 1_000
    # Statements that are over and wait for ReadyForQuery, which tells their transaction status; per session.
    max_finished_statements: int = 1_000

    # Texts and values of one session's waiting requests together, and once more for its prepared statements.
    max_session_text_bytes: int = 16 << 20

    # SQL text in a record; of longer text the beginning and a SHA-256 of the whole are kept.
    max_text_bytes: int = 65_536
    # Value of one parameter as a record shows it.
    max_parameter_bytes: int = 4_096
    # Parameters in a record; `parameter_count` has the true number.
    max_parameters: int = 1_024
    # Capture time between progress records of a statement that runs on: 10 s (0: no progress records).
    progress_interval_us: int = 10_000_000

    def __post_init__(self) -> None:
        problems = _limit_problems(self)
        if problems:
            raise ConfigError("; ".join(problems))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to read, how to name it, and what to keep out of the records.

    `server_ports` are TCP ports of PostgreSQL servers; with `auto_ports` other ports are looked at too and
    taken for PostgreSQL if their first bytes say so. `vxlan_ports` and `geneve_ports` are UDP ports with
    encapsulated frames. `networks` names VXLAN networks: {VNI: name}. `redact` keeps passwords and other
    secrets out of the records ("secrets"), or all literals and parameter values too ("values"), or nothing
    ("none"). With `redact_key` (at least 16 bytes) redacted parameter values are replaced by their HMAC, so
    that equal values can still be recognised. `trust_first_segment` takes the first segment of a connection
    that was joined in its middle for the beginning of a message.
    """

    server_ports: tuple[int, ...] = (5432,)
    auto_ports: bool = False
    vxlan_ports: tuple[int, ...] = (4789,)
    geneve_ports: tuple[int, ...] = (6081,)
    networks: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))
    redact: Redact = "secrets"
    redact_key: bytes | None = field(default=None, repr=False)
    trust_first_segment: bool = False
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        problems = [
            *_port_problems("server_ports", self.server_ports),
            *_port_problems("vxlan_ports", self.vxlan_ports),
            *_port_problems("geneve_ports", self.geneve_ports),
            *_network_problems(self.networks),
        ]
        if not self.server_ports and not self.auto_ports:
            problems.append("server_ports is empty and auto_ports is off: there is nothing to look for")
        both = sorted({*self.vxlan_ports} & {*self.geneve_ports})
        problems.extend(f"UDP port {port} cannot be both VXLAN and Geneve" for port in both)
        if self.redact not in get_args(Redact):
            problems.append(f"redact must be one of {', '.join(get_args(Redact))}, not {self.redact!r}")
        if self.redact_key is not None:
            if len(self.redact_key) < _MIN_KEY_BYTES:
                problems.append(f"redact_key has {len(self.redact_key)} bytes, fewer than {_MIN_KEY_BYTES}")
            if self.redact == "none":
                problems.append("redact_key has no use with redact 'none'")
        if problems:
            raise ConfigError("; ".join(problems))


def _limit_problems(limits: Limits) -> list[str]:
    problems = []
    for item in fields(limits):
        value = getattr(limits, item.name)
        least = 0 if item.name in _MAY_BE_ZERO else 1
        if not isinstance(value, int) or isinstance(value, bool):
            problems.append(f"{item.name} must be an integer, not {value!r}")
        elif not least <= value < 1 << 62:
            problems.append(f"{item.name} must be at least {least} and less than 2^62, not {value}")
    return problems


def _port_problems(name: str, ports: Iterable[object]) -> list[str]:
    return [
        f"{name}: {port!r} is not a port from 1 to {_MAX_PORT}"
        for port in ports
        if not isinstance(port, int) or isinstance(port, bool) or not 1 <= port <= _MAX_PORT
    ]


def _network_problems(networks: Mapping[Any, Any]) -> list[str]:
    problems = []
    for vni, name in networks.items():
        if not isinstance(vni, int) or isinstance(vni, bool) or not 0 <= vni <= _MAX_VNI:
            problems.append(f"networks: {vni!r} is not a VNI from 0 to {_MAX_VNI}")
        if not isinstance(name, str) or not name or not name.isprintable():
            problems.append(f"networks: {name!r} is not a printable name")
    return problems
