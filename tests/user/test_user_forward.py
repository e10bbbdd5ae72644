"""The grammar of hostfwd=."""

from ipaddress import IPv4Address, IPv4Network

import pytest

from netemu.errors import LocalError
from netemu.user.forward import Forward, parse_forward

NET = IPv4Network("10.0.2.0/24")
FIRST = IPv4Address("10.0.2.15")


def parse(rule: str) -> Forward:
    return parse_forward(rule, NET, FIRST)


@pytest.mark.parametrize(
    ("rule", "forward"),
    [
        ("tcp:127.0.0.1:2222-10.0.2.20:22", "tcp:127.0.0.1:2222-10.0.2.20:22"),
        ("tcp:192.0.2.1:2222-:22", "tcp:192.0.2.1:2222-10.0.2.15:22"),
        ("tcp::2222-:22", "tcp:127.0.0.1:2222-10.0.2.15:22"),
        ("::2222-:22", "tcp:127.0.0.1:2222-10.0.2.15:22"),
        ("udp::0-:53", "udp:127.0.0.1:0-10.0.2.15:53"),
        ("tcp:0.0.0.0:0x50-:0120", "tcp:0.0.0.0:80-10.0.2.15:80"),
    ],
)
def test_rules(rule: str, forward: str) -> None:
    assert str(parse(rule)) == forward


def test_unix_sockets_are_not_there_yet() -> None:
    with pytest.raises(LocalError, match="UNIX sockets are not there yet"):
        parse("unix:/run/x-:22")


@pytest.mark.parametrize(
    "rule",
    [
        "",
        "tcp",
        "tcp:2222-:22",
        "tcp::2222:22",
        "tcp::2222-22",
        "tcp::-:22",
        "tcp::2222-:0",
        "tcp::2222-:",
        "tcp::65536-:22",
        "tcp::-1-:22",
        "tcp::08-:22",
        "tcp::2_2-:22",
        "tcp:localhost:2222-:22",
        "tcp:127.1:2222-:22",
        "sctp::2222-:22",
        "tcp::2222-10.0.3.1:22",
        "tcp::2222-10.0.2.255:22",
        "tcp::2222-:22:23",
    ],
)
def test_what_is_no_rule_gets_one_sentence(rule: str) -> None:
    with pytest.raises(LocalError, match=r"^hostfwd="):
        parse(rule)
