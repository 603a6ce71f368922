"""Read audit records: `Record` is a lazy, typed view of one JSON line.

A record is an `Envelope` (who, where, when) and one body that depends on its kind (see `audit.bodies`). The
line itself stays the truth: it is parsed when an attribute is first asked for, `to_json` gives the very bytes
back, and two records are equal if their lines are. Fields that a later minor schema version may add are
ignored; a missing field, a wrong type or another major version raises `RecordError`.
"""

import json
import types
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from mirror_audit.audit.bodies import BODIES, Body, Count, Keywords, Statement
from mirror_audit.errors import RecordError

__all__ = ["SCHEMA_VERSION", "Envelope", "Kind", "Record", "json_name"]

SCHEMA_VERSION = "1.0"

Kind = Literal[
    "session_start",
    "login_failed",
    "session_end",
    "statement",
    "statement_progress",
    "transaction_end",
    "cancel_request",
    "encrypted_session",
    "replication",
    "gap",
    "undecodable",
]
Port = Annotated[int, Keywords(minimum=0, maximum=0xFFFF)]
Vni = Annotated[int, Keywords(minimum=0, maximum=0xFFFFFF)]


@dataclass(frozen=True, slots=True)
class Envelope:
    """What every record says: which session, whose, between whom and when."""

    schema_version: Annotated[
        str, Keywords(pattern=r"^1\.[0-9]+$"), "Version of this schema; a new minor version only adds fields."
    ]
    kind: Annotated[Kind, "What happened; also the name of the body."]
    id: Annotated[str, "Identifier of the record; the same capture gives the same again."]
    collector: Annotated[str | None, "Name of the live collector; null in replay."]
    stream: Annotated[str | None, "The collector's output stream; null in replay."]
    sequence: Annotated[Count | None, "Number of the record in its stream, without holes; null in replay."]
    time: Annotated[
        str,
        Keywords(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z$"),
        "Time of the packet it is about (of a statement: its request), by the capture's clock, UTC.",
    ]
    session_id: Annotated[
        str | None,
        "Identifier of the TCP connection; the same in all its records. Null, like all up to server_port, "
        "in a gap that belongs to no connection.",
    ]
    network: Annotated[
        str | None, "Network of the packets: default without VXLAN, else the VNI's name, such as vni-7."
    ]
    vni: Annotated[Vni | None, "VXLAN Network Identifier."]
    client_address: Annotated[str | None, "IP address of the client; the true one if a PROXY header told it."]
    client_port: Annotated[Port | None, "TCP port of the client."]
    server_address: Annotated[str | None, "IP address of the server."]
    server_port: Annotated[Port | None, "TCP port of the server."]
    proxy_address: Annotated[str | None, "IP address of the proxy, if a PROXY header was seen."]
    proxy_port: Annotated[Port | None, "TCP port of the proxy."]
    user: Annotated[str | None, "User of the startup message; null if it was not seen."]
    database: Annotated[str | None, "Database of the startup message; null if it was not seen."]
    application_name: Annotated[str | None, "application_name, as last reported."]
    server_version: Annotated[str | None, "server_version, as the server reported it."]
    backend_pid: Annotated[int | None, "Process ID of the server's backend."]


class Record:
    """One audit record. `Record(line)` does not look at the line yet; `Record.from_json(line)` does.

    Each attribute but `to_json` raises `RecordError` if the line turns out not to be a record.
    """

    __slots__ = ("_body", "_data", "_envelope", "_line")

    def __init__(self, line: bytes) -> None:
        self._line = line.rstrip(b"\r\n")
        self._data: dict[str, Any] | None = None
        self._envelope: Envelope | None = None
        self._body: Body | None = None

    @classmethod
    def from_json(cls, line: bytes) -> "Record":
        """A record that is known to be one: raises `RecordError` if `line` is not, or of another version."""
        record = cls(line)
        _ = record.body
        return record

    def to_json(self) -> bytes:
        """The line it was made from, without the newline."""
        return self._line

    def to_dict(self) -> dict[str, Any]:
        """The parsed JSON object, made afresh at each call."""
        return _parse(self._line)

    @property
    def envelope(self) -> Envelope:
        """Everything but the body."""
        if self._envelope is None:
            self._envelope = cast(Envelope, _build(Envelope, self._parsed(), ""))
        return self._envelope

    @property
    def body(self) -> Body:
        """The body: the dataclass of the record's kind, for `match record.body: case Statement(): ...`."""
        if self._body is None:
            kind = self.kind
            data = self._parsed()
            if kind not in data:
                raise RecordError(f"a record of kind {kind} has no {kind}")
            self._body = cast(Body, _convert(BODIES[kind], data[kind], kind))
        return self._body

    @property
    def statement(self) -> Statement | None:
        """The body if it is a statement's, else None."""
        body = self.body if self.kind == "statement" else None
        return body if isinstance(body, Statement) else None

    @property
    def kind(self) -> Kind:
        """What happened."""
        return self.envelope.kind

    @property
    def id(self) -> str:
        """Identifier of the record."""
        return self.envelope.id

    @property
    def session_id(self) -> str | None:
        """Identifier of the TCP connection; None in a gap that belongs to none."""
        return self.envelope.session_id

    @property
    def time(self) -> datetime:
        """Time of the packet, aware, UTC."""
        try:
            return datetime.strptime(self.envelope.time, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
        except ValueError:
            raise RecordError(f"time: {self.envelope.time!r} is not a UTC time with microseconds") from None

    @property
    def user(self) -> str | None:
        """User of the session, if known."""
        return self.envelope.user

    @property
    def database(self) -> str | None:
        """Database of the session, if known."""
        return self.envelope.database

    @property
    def client_address(self) -> str | None:
        """IP address of the client, if there is one."""
        return self.envelope.client_address

    @property
    def server_address(self) -> str | None:
        """IP address of the server, if there is one."""
        return self.envelope.server_address

    def __eq__(self, other: object) -> bool:
        return self._line == other._line if isinstance(other, Record) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._line)

    def __repr__(self) -> str:
        return f"Record({self._line!r})"

    def __reduce__(self) -> tuple[type["Record"], tuple[bytes]]:
        return Record, (self._line,)

    def _parsed(self) -> dict[str, Any]:
        if self._data is None:
            self._data = _parse(self._line)
        return self._data


def json_name(attribute: str) -> str:
    """The JSON key of a dataclass field: its name without a trailing underscore."""
    return attribute.removesuffix("_")


def _parse(line: bytes) -> dict[str, Any]:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"not a JSON object: {error}") from None
    if not isinstance(data, dict):
        raise RecordError("not a JSON object")
    version = data.get("schema_version")
    if not isinstance(version, str) or version.partition(".")[0] != SCHEMA_VERSION.partition(".")[0]:
        raise RecordError(f"schema_version {version!r} is not known; this library reads {SCHEMA_VERSION}")
    return data


Converter = Callable[[Any, str], Any]


def _build(cls: type[Any], data: Mapping[str, Any], path: str) -> object:
    values = []
    for name, converter in _converters(cast(Hashable, cls)):
        where = f"{path}.{name}" if path else name
        if name not in data:
            raise RecordError(f"{where} is missing")
        values.append(converter(data[name], where))
    return cls(*values)


@cache
def _converters(cls: Hashable) -> list[tuple[str, Converter]]:
    kind = cast(type[Any], cls)
    hints = get_type_hints(kind)  # without include_extras: only the types matter here
    return [(json_name(item.name), _converter(hints[item.name])) for item in fields(kind)]


def _convert(expected: Any, value: Any, path: str) -> Any:
    return _converter(expected)(value, path)


def _converter(expected: Any) -> Converter:
    """A function that checks a JSON value against a type of a field and gives the field's value."""
    origin, arguments = get_origin(expected), get_args(expected)
    if origin in (types.UnionType, Union):
        inner = _converter(next(item for item in arguments if item is not types.NoneType))
        return lambda value, path: None if value is None else inner(value, path)
    if origin is Literal:
        return lambda value, path: _check(value in arguments and type(value) in _SCALARS, value, path)
    if origin is tuple:
        item = _converter(arguments[0])

        def convert_items(value: Any, path: str) -> tuple[Any, ...]:
            _check(isinstance(value, list), value, path)
            return tuple(item(one, f"{path}[{i}]") for i, one in enumerate(value))

        return convert_items
    if origin is Mapping:
        return lambda value, path: _check(
            isinstance(value, dict) and all(isinstance(one, str) for one in value.values()), value, path
        )
    if is_dataclass(expected):

        def convert_object(value: Any, path: str) -> object:
            _check(isinstance(value, dict), value, path)
            return _build(cast(type[Any], expected), value, path)

        return convert_object
    return lambda value, path: _check(type(value) is expected, value, path)


_SCALARS = (str, bool)


def _check(fits: bool, value: Any, path: str) -> Any:
    if not fits:
        raise RecordError(f"{path}: {_shown(value)} does not fit")
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
