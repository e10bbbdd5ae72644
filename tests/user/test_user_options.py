"""The options of a user-mode network: defaults, checks, and the sentence for each mistake."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address

import pytest

from netemu.errors import LocalError
from netemu.user.options import UserOptions
from netemu.wire.address import MacAddress


def test_defaults_are_those_of_the_manual() -> None:
    options = UserOptions()
    assert str(options.net) == "10.0.2.0/24"
    assert [str(address) for address in (options.host, options.dns, options.smb_address, options.dhcpstart)] == [
        "10.0.2.2",
        "10.0.2.3",
        "10.0.2.4",
        "10.0.2.15",
    ]
    assert (options.restrict, options.mtu, options.lease_time) == (False, 1500, 86_400)


@pytest.mark.parametrize(
    ("net", "network", "host", "dhcpstart"),
    [
        ("192.168.76.0/24", "192.168.76.0/24", "192.168.76.2", "192.168.76.15"),
        ("192.168.76.9/255.255.255.0", "192.168.76.0/24", "192.168.76.2", "192.168.76.15"),
        ("10.0.0.0", "10.0.0.0/8", "10.0.2.2", "10.0.2.15"),
        ("172.20.1.1", "172.16.0.0/12", "172.16.2.2", "172.16.2.15"),
        ("150.1.0.0", "150.1.0.0/16", "150.1.2.2", "150.1.2.15"),
        ("192.168.0.0", "192.168.0.0/16", "192.168.2.2", "192.168.2.15"),
        ("198.18.0.0", "198.18.0.0/15", "198.18.2.2", "198.18.2.15"),
    ],
)
def test_net_as_qemu_reads_it(net: str, network: str, host: str, dhcpstart: str) -> None:
    options = UserOptions.from_pairs([("net", net)])
    assert (str(options.net), str(options.host), str(options.dhcpstart)) == (network, host, dhcpstart)


@pytest.mark.parametrize(("net", "network"), [("192.0.2.16", "192.0.2.16/28"), ("224.0.0.16", "224.0.0.0/24")])
def test_qemus_masks_for_the_other_classes(net: str, network: str) -> None:
    options = UserOptions.from_pairs([("net", net), ("dhcpstart", str(IPv4Address(net) + 5))])
    assert str(options.net) == network


def test_a_small_net_needs_a_first_address() -> None:
    with pytest.raises(LocalError, match="give dhcpstart="):
        UserOptions.from_pairs([("net", "192.0.2.16/28")])
    options = UserOptions.from_pairs([("net", "192.0.2.16/28"), ("dhcpstart", "192.0.2.21")])
    assert options.pool == tuple(IPv4Address(f"192.0.2.{last}") for last in range(21, 31))


def test_the_pool_leaves_out_the_networks_own_addresses() -> None:
    options = UserOptions(dhcpstart=IPv4Address("10.0.2.1"))
    assert len(options.pool) == 13
    assert not set(options.pool) & set(options.own_addresses)


def test_two_guests_do_not_get_one_settled_address() -> None:
    with pytest.raises(LocalError, match="nobody's yet"):
        UserOptions.from_pairs([("static-lease", f"52:54:00:12:34:5{last}=10.0.2.50") for last in (6, 7)])


def test_the_smb_address_gives_way() -> None:
    options = UserOptions(dns=IPv4Address("10.0.2.4"))
    assert options.smb_address is None
    assert options.own_addresses == (IPv4Address("10.0.2.2"), IPv4Address("10.0.2.4"))


def test_dns_may_be_outside_unless_restricted() -> None:
    outside = IPv4Address("192.0.2.53")
    assert UserOptions(dns=outside).dns == outside
    with pytest.raises(LocalError, match="dns=192"):
        UserOptions(dns=outside, restrict=True)


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("net", "10.0.2.0/33", "a network such as"),
        ("net", "10.0.2.0/31", "4 to 30 bits"),
        ("net", "ten", "a network such as"),
        ("host", "10.0.3.2", "an address of a host in 10.0.2.0/24"),
        ("host", "10.0.2.255", "an address of a host in 10.0.2.0/24"),
        ("host", "10.0.2.3", "three different addresses"),
        ("host", "gateway", "an IPv4 address such as"),
        ("dhcpstart", "10.0.2.2", "three different addresses"),
        ("dhcpstart", "10.0.3.15", "an address of a host"),
        ("restrict", "maybe", "on or off"),
        ("hostname", "x" * 256, "1 to 255 octets"),
        ("domainname", "", "1 to 255 octets"),
        ("dnssearch", "a..b", "1 to 63 octets"),
        ("hostfwd", "tcp:80", r"\[tcp\|udp\]:\[hostaddr\]:hostport"),
        ("hostfwd", "tcp::9-8-:80", "the range 9-8 is empty"),
        ("hostfwd", "tcp::0-8-:80", "port '0' is not from 1 to 65535"),
        ("hostfwd", "tcp::8-9-:80-82", "2 ports of the host's cannot lead to 3 of the guest's"),
        ("hostfwd", "tcp::8-:80-81", "1 ports of the host's cannot lead to 2 of the guest's"),
        ("hostfwd", "tcp::8-9-:65535", "2 ports from 65535 on are more than there are"),
        ("hostfwd-source", "real", "auto, peer, gateway are allowed"),
        ("mtu", "575", "576 to 65521"),
        ("mtu", "65522", "576 to 65521"),
        ("mtu", "-1", "a whole number"),
        ("lease-time", "0", "1 to 4294967294 seconds"),
        ("pool-size", "0", "pool-size=0: give 1 to 4096 leases"),
        ("pool-size", "4097", "1 to 4096 leases"),
        ("bootfile", "x" * 128, "1 to 127 octets"),
        ("tftp-server-name", "x" * 256, "1 to 255 octets"),
        ("tftp-write", "on", "give tftp="),
        ("static-lease", "52:54:00:12:34=10.0.2.50", "a MAC and an IPv4 address are needed"),
        ("static-lease", "52:54:00:12:34:56=10.0.2.2", "nobody's yet"),
        ("static-lease", "52:54:00:12:34:56=10.0.2.255", "nobody's yet"),
        ("static-lease", "52:54:00:12:34:56=10.0.3.50", "an address of a host in 10.0.2.0/24"),
        ("route", "198.51.100.0/24", "a network and a router are needed"),
        ("dns-name", "db.test", "a name and an address or another name are needed"),
        ("dns-name", "a..b=192.0.2.9", "1 to 63 octets"),
        ("dns-name", "a.test=b.test", "an alias has one target, another one of the names given"),
        ("dns-name", "a.test=a.test", "an alias has one target, another one of the names given"),
        ("guestfwd", "tcp:10.0.2.100:80", r"guestfwd=tcp:10.0.2.100:80: give \[tcp\]:"),
        ("guestfwd", "udp:10.0.2.100:80-cmd:cat", r"give \[tcp\]:"),
        ("guestfwd", "tcp:10.0.3.100:80-cmd:cat", "no address of a host in 10.0.2.0/24"),
        ("guestfwd", "tcp:10.0.2.255:80-cmd:cat", "no address of a host in 10.0.2.0/24"),
        ("guestfwd", "tcp:ten:80-cmd:cat", "'ten' is no IPv4 address"),
        ("guestfwd", "tcp:10.0.2.100:0-cmd:cat", "port 0 is not from 1 to 65535"),
        ("guestfwd", "tcp:10.0.2.100:80-tcp:127.0.0.1:70000", "port 70000 is not from 1 to 65535"),
        ("guestfwd", "tcp:10.0.2.100:80-cmd:", "is no target"),
        ("guestfwd", "tcp:10.0.2.100:80-unix:relative", "is no target"),
        ("smbserver", "10.0.2.2", "give smbserver="),
        ("smbserver", "10.0.3.4", "an address of a host in 10.0.2.0/24 is needed"),
        ("outbound-addr", "here", "an IPv4 address such as"),
        ("colour", "red", "netdev user has no option 'colour': it has bootfile, dhcpstart, dhcpv6, "),
    ],
)
def test_one_sentence_for_each_mistake(key: str, value: str, sentence: str) -> None:
    with pytest.raises(LocalError, match=sentence):
        UserOptions.from_pairs([(key, value)])


def test_every_option_in_qemus_words() -> None:
    options = UserOptions.from_pairs(
        [
            ("net", "192.168.76.0/24"),
            ("host", "192.168.76.1"),
            ("dns", "192.168.76.5"),
            ("dhcpstart", "192.168.76.9"),
            ("restrict", "on"),
            ("hostname", "guest"),
            ("domainname", "example.org"),
            ("dnssearch", "a.example"),
            ("dnssearch", "b.example"),
            ("hostfwd", "tcp::5555-:23"),
            ("hostfwd", "udp:127.0.0.1:0-192.168.76.10:53"),
            ("ipv4", "on"),
            ("ipv6", "off"),
            ("mtu", "9000"),
            ("lease-time", "600"),
            ("pool-size", "4"),
            ("static-lease", "52:54:00:12:34:56=192.168.76.50"),
            ("ntp", "192.0.2.123"),
            ("route", "198.51.100.0/24=192.168.76.7"),
            ("dns-name", "db.test=192.0.2.9"),
            ("guestfwd", "tcp:192.168.76.100:80-cmd:cat"),
            ("smb", "shared"),
            ("smbserver", "192.168.76.6"),
            ("tftp", "boot"),
            ("tftp-write", "on"),
            ("tftp-server-name", "192.0.2.69"),
            ("bootfile", "pxe.0"),
            ("disable-host-loopback", "on"),
            ("disable-dns", "on"),
            ("disable-dhcp", "on"),
            ("outbound-addr", "192.0.2.254"),
            ("outbound-addr6", "2001:db8::fe"),
            ("hostfwd-source", "gateway"),
        ]
    )
    assert options == UserOptions(
        net=IPv4Network("192.168.76.0/24"),
        host=IPv4Address("192.168.76.1"),
        dns=IPv4Address("192.168.76.5"),
        dhcpstart=IPv4Address("192.168.76.9"),
        restrict=True,
        hostname="guest",
        domainname="example.org",
        dnssearch=("a.example", "b.example"),
        hostfwd=("tcp::5555-:23", "udp:127.0.0.1:0-192.168.76.10:53"),
        ipv6=False,
        mtu=9000,
        lease_time=600,
        pool_size=4,
        static_lease=((MacAddress("52:54:00:12:34:56"), IPv4Address("192.168.76.50")),),
        ntp=(IPv4Address("192.0.2.123"),),
        route=((IPv4Network("198.51.100.0/24"), IPv4Address("192.168.76.7")),),
        dns_name=(("db.test", IPv4Address("192.0.2.9")),),
        guestfwd=("tcp:192.168.76.100:80-cmd:cat",),
        smb="shared",
        smbserver=IPv4Address("192.168.76.6"),
        tftp="boot",
        tftp_write=True,
        tftp_server_name="192.0.2.69",
        bootfile="pxe.0",
        disable_host_loopback=True,
        disable_dns=True,
        disable_dhcp=True,
        outbound_addr=IPv4Address("192.0.2.254"),
        outbound_addr6=IPv6Address("2001:db8::fe"),
        hostfwd_source="gateway",
    )
