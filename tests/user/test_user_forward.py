"""The grammar of hostfwd=."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest

from netemu.errors import LocalError
from netemu.user.forward import Forward, Place, parse_forward

NET = IPv4Network("10.0.2.0/24")
FIRST = IPv4Address("10.0.2.15")
NET6 = IPv6Network("fec0::/64")
FIRST6 = IPv6Address("fec0::15")


def parse(rule: str) -> Forward:
    return parse_forward(rule, {4: Place(NET, FIRST), 6: Place(NET6, FIRST6)})


@pytest.mark.parametrize(
    ("rule", "forward"),
    [
        ("tcp:127.0.0.1:2222-10.0.2.20:22", "tcp:127.0.0.1:2222-10.0.2.20:22"),
        ("tcp:192.0.2.1:2222-:22", "tcp:192.0.2.1:2222-10.0.2.15:22"),
        ("tcp::2222-:22", "tcp:127.0.0.1:2222-10.0.2.15:22"),
        ("::2222-:22", "tcp:127.0.0.1:2222-10.0.2.15:22"),
        ("udp::0-:53", "udp:127.0.0.1:0-10.0.2.15:53"),
        ("tcp::-:22", "tcp:127.0.0.1:0-10.0.2.15:22"),
        ("tcp::8000-8010-:80", "tcp:127.0.0.1:8000-8010-10.0.2.15:80-90"),
        ("udp:[::1]:0x10-0x11-[fec0::20]:020-021", "udp:[::1]:16-17-[fec0::20]:16-17"),
        ("tcp:0.0.0.0:0x50-:0120", "tcp:0.0.0.0:80-10.0.2.15:80"),
        ("tcp:[::1]:0-[fec0::20]:80", "tcp:[::1]:0-[fec0::20]:80"),
        ("udp:[::]:53-:53", "udp:[::]:53-[fec0::15]:53"),
        ("tcp::2222-[fec0::20]:22", "tcp:127.0.0.1:2222-[fec0::20]:22"),
        ("tcp:[::1]:2222-10.0.2.15:22", "tcp:[::1]:2222-10.0.2.15:22"),
    ],
)
def test_rules(rule: str, forward: str) -> None:
    assert str(parse(rule)) == forward


@pytest.mark.parametrize(
    ("rule", "path", "guest"),
    [
        ("unix:/run/x-:22", "/run/x", "10.0.2.15:22"),
        ("unix:/run/a-b:c-10.0.2.20:0x50", "/run/a-b:c", "10.0.2.20:80"),
        ("unix:/run/x-[fec0::20]:22", "/run/x", "[fec0::20]:22"),
    ],
)
def test_unix_sockets(rule: str, path: str, guest: str) -> None:
    forward = parse(rule)
    assert (forward.protocol, forward.path, str(forward.guest)) == ("tcp", path, guest)
    assert str(forward) == f"unix:{path}-{guest}"


@pytest.mark.parametrize("rule", ["unix:run/x-:22", "unix:/run/x", "unix:/run/x-22", "unix:-:22"])
def test_what_is_no_path_gets_one_sentence(rule: str) -> None:
    with pytest.raises(LocalError, match="give unix:/path"):
        parse(rule)


def test_a_path_needs_a_guest_of_the_network() -> None:
    with pytest.raises(LocalError, match=r"is no host of 10\.0\.2\.0/24"):
        parse("unix:/run/x-10.0.3.1:22")


@pytest.mark.parametrize(
    "rule",
    [
        "",
        "tcp",
        "tcp:2222-:22",
        "tcp::2222:22",
        "tcp::2222-22",
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
        "tcp:::1:2222-:22",
        "tcp:[::1:2222-:22",
        "tcp:[127.0.0.1]:2222-:22",
        "tcp:[fe80::1%eth0]:2222-:22",
        "tcp::2222-[fec1::15]:22",
        "tcp::2222-[fec0::]:22",
        "tcp::2222-[ff02::1]:22",
    ],
)
def test_what_is_no_rule_gets_one_sentence(rule: str) -> None:
    with pytest.raises(LocalError, match=r"^hostfwd="):
        parse(rule)


def test_a_network_of_one_family_forwards_to_that() -> None:
    only6 = {6: Place(NET6, FIRST6)}
    assert str(parse_forward("tcp::2222-:22", only6)) == "tcp:127.0.0.1:2222-[fec0::15]:22"
    with pytest.raises(LocalError, match=r"does not speak the family of guest address 10\.0\.2\.15"):
        parse_forward("tcp::2222-10.0.2.15:22", only6)
    with pytest.raises(LocalError, match="has no address to lease"):
        parse_forward("tcp:[::1]:2222-:22", {6: Place(IPv6Network("fec0::/126"), None)})
