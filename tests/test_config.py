"""Settings are checked once, and all that is wrong is said at once."""

from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest

from mirror_audit.config import Limits, Settings
from mirror_audit.errors import ConfigError


def test_defaults() -> None:
    settings = Settings()

    assert settings.server_ports == (5432,)
    assert settings.vxlan_ports == (4789,)
    assert settings.redact == "secrets"
    assert all(isinstance(getattr(settings.limits, field.name), int) for field in fields(Limits))


def test_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings().auto_ports = True  # type: ignore[misc]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"server_ports": (0,)}, "server_ports: 0 is not a port from 1 to 65535"),
        ({"server_ports": ("5432",)}, "server_ports: '5432' is not a port"),
        ({"server_ports": (True,)}, "server_ports: True is not a port"),
        ({"vxlan_ports": (65536,)}, "vxlan_ports: 65536 is not a port"),
        ({"geneve_ports": (-1,)}, "geneve_ports: -1 is not a port"),
        ({"vxlan_ports": (6081,)}, "UDP port 6081 cannot be both VXLAN and Geneve"),
        ({"server_ports": ()}, "there is nothing to look for"),
        ({"networks": {1 << 24: "prod"}}, "networks: 16777216 is not a VNI"),
        ({"networks": {7: ""}}, "networks: '' is not a printable name"),
        ({"networks": {7: "a\x1b[m"}}, "is not a printable name"),
        ({"redact": "all"}, "redact must be one of secrets, values, none, not 'all'"),
        ({"redact_key": b"short"}, "redact_key has 5 bytes, fewer than 16"),
        ({"redact_key": b"k" * 16, "redact": "none"}, "redact_key has no use with redact 'none'"),
    ],
)
def test_settings_that_cannot_be_used(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings(**options)

    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"max_flows": 0}, "max_flows must be at least 1 and less than 2^62, not 0"),
        ({"max_flows": 1 << 62}, "max_flows must be at least 1"),
        ({"max_flows": 1.5}, "max_flows must be an integer, not 1.5"),
        ({"max_flows": True}, "max_flows must be an integer, not True"),
        ({"reorder_grace_us": -1}, "reorder_grace_us must be at least 0"),
    ],
)
def test_limits_that_cannot_be_used(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Limits(**options)

    assert problem in str(caught.value)


def test_all_problems_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Settings(server_ports=(0, 70000), redact_key=b"", networks={-1: ""})

    message = str(caught.value)
    assert message.count("; ") == 4
    assert "70000" in message
    with pytest.raises(ConfigError, match=r"max_flows.*max_portals"):
        Limits(max_flows=0, max_portals=0)


def test_what_may_be_zero_or_empty() -> None:
    assert Limits(reorder_grace_us=0, progress_interval_us=0).reorder_grace_us == 0
    assert Settings(server_ports=(), auto_ports=True).auto_ports


def test_key_is_not_shown() -> None:
    assert "kkkk" not in repr(Settings(redact="values", redact_key=b"k" * 16))
