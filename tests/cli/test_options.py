"""Values of options."""

import click
import pytest

from mirror_audit.cli.options import duration, server_port


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("0", 0),
        ("1us", 1),
        ("200ms", 200_000),
        ("1.5s", 1_500_000),
        ("0.000001s", 1),
        ("2m", 120_000_000),
        ("24h", 86_400_000_000),
    ],
)
def test_duration(text: str, microseconds: int) -> None:
    assert duration(text) == microseconds


@pytest.mark.parametrize("text", ["", "5", "-1s", "s", "1 s", "1.s", "1e3s", "٣s", "1d", "99999999999s"])
def test_no_duration(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a duration such as"):
        duration(text)


@pytest.mark.parametrize("text", ["", "0", "65536", "-1", "+1", "٣", "AUTO", "99999999"])
def test_no_server_port(text: str) -> None:
    with pytest.raises(click.BadParameter):
        server_port(text)
