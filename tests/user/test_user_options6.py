"""The IPv6 half of a user-mode network's options."""

from ipaddress import IPv6Address, IPv6Network

import pytest

from netemu.errors import LocalError
from netemu.user.options import UserOptions


def options(**pairs: str) -> UserOptions:
    return UserOptions.from_pairs([(key.replace("_", "-"), value) for key, value in pairs.items()])


def test_defaults_are_qemus() -> None:
    plain = UserOptions()
    assert (plain.ipv4, plain.ipv6) == (True, True)
    assert [str(part) for part in (plain.ipv6_net, plain.ipv6_host, plain.ipv6_dns)] == ["fec0::/64", "fec0::2", "fec0::3"]
    assert [str(address) for address in plain.own_addresses6] == ["fec0::2", "fec0::3", "fe80::2", "fe80::3"]
    assert (str(plain.pool6[0]), str(plain.pool6[-1]), len(plain.pool6)) == ("fec0::15", "fec0::24", 16)


def test_addresses_follow_the_prefix() -> None:
    moved = options(ipv6_prefix="2001:db8:1::", ipv6_prefixlen="48")
    assert moved.ipv6_net == IPv6Network("2001:db8:1::/48")
    assert [str(address) for address in (moved.ipv6_host, moved.ipv6_dns)] == ["2001:db8:1::2", "2001:db8:1::3"]
    assert str(moved.pool6[0]) == "2001:db8:1::15"
    assert moved == options(ipv6_net="2001:db8:1::/48")


@pytest.mark.parametrize(
    ("pairs", "network"),
    [
        ({"ipv6_net": "2001:db8::"}, "2001:db8::/64"),
        ({"ipv6_net": "2001:db8::7/0"}, "2001:db8::/64"),
        ({"ipv6_prefix": "2001:db8::"}, "2001:db8::/64"),
        ({"ipv6_prefixlen": "126"}, "fec0::/126"),
        ({"ipv6_prefixlen": "0"}, "fec0::/64"),
    ],
)
def test_prefix_and_its_length(pairs: dict[str, str], network: str) -> None:
    assert options(**pairs).ipv6_net == IPv6Network(network)


def test_a_narrow_prefix_has_nothing_to_lease() -> None:
    assert options(ipv6_prefixlen="126").pool6 == ()
    assert len(options(ipv6_prefixlen="123").pool6) == 11  # ::15 to ::1f


def test_the_pool_leaves_out_the_networks_own_addresses() -> None:
    inside = options(ipv6_dns="fec0::16")
    assert IPv6Address("fec0::16") not in inside.pool6
    assert len(inside.pool6) == 15


@pytest.mark.parametrize(
    ("pairs", "families"),
    [
        ({}, (True, True)),
        ({"ipv4": "on"}, (True, False)),
        ({"ipv6": "on"}, (False, True)),
        ({"ipv4": "off"}, (False, True)),
        ({"ipv6": "off"}, (True, False)),
        ({"ipv4": "on", "ipv6": "on"}, (True, True)),
        ({"ipv4": "on", "ipv6": "off"}, (True, False)),
        ({"ipv4": "off", "ipv6": "on"}, (False, True)),
    ],
)
def test_to_name_one_family_is_to_leave_out_the_other(pairs: dict[str, str], families: tuple[bool, bool]) -> None:
    given = options(**pairs)
    assert (given.ipv4, given.ipv6) == families


@pytest.mark.parametrize(
    ("pairs", "sentence"),
    [
        ({"ipv4": "off", "ipv6": "off"}, "speaks one of them at least"),
        ({"ipv4": "on", "ipv6_host": "fec0::9"}, "ipv6-host=fec0::9: ipv6 is off"),
        ({"ipv6": "on", "net": "10.9.0.0/24"}, "net=10.9.0.0/24: ipv4 is off"),
        ({"ipv6_net": "fec0::/127"}, "from 0 to 126"),
        ({"ipv6_prefixlen": "-1"}, "from 0 to 126"),
        ({"ipv6_prefix": "fec0"}, "an IPv6 address such as"),
        ({"ipv6_host": "fe80::2%eth0"}, "an IPv6 address such as"),
        ({"ipv6_net": "fec0::/64", "ipv6_prefix": "fec0::"}, "the one or the others"),
        ({"ipv6_host": "fec1::2"}, "an address of a host in fec0::/64"),
        ({"ipv6_host": "fec0::3"}, "two different addresses"),
        ({"ipv6_dns": "ff02::1"}, "an address of a host"),
        ({"ipv6_dns": "2001:db8::53", "restrict": "on"}, "ipv6-dns=2001:db8::53: an address of a host in fec0::/64"),
        ({"dhcpv6": "maybe"}, "stateful, stateless, off are allowed"),
    ],
)
def test_one_sentence_for_each_mistake(pairs: dict[str, str], sentence: str) -> None:
    with pytest.raises(LocalError, match=sentence):
        options(**pairs)


def test_dns_may_be_outside_unless_restricted() -> None:
    assert str(options(ipv6_dns="2001:db8::53").ipv6_dns) == "2001:db8::53"
