"""Each class of bad input that broke a user-mode network somewhere, replayed on ours: dropped or refused, counted, others served.

A row of the table is one class: a CVE or the name it goes by, what is wrong about the frames, the frames, which counters tell of
them, and how many are answered. docs/hostile.md is this table for readers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from crowd import DNS, GATEWAY, GATEWAY6, GATEWAY_MAC, GUEST, GUEST6, LINK6, MAC, ROUTER6, SERVER, SERVER6, SILENT, Crowd
from hostile_frames import (
    ANY,
    BROADCAST,
    dhcp,
    dhcp6,
    dhcp_octets,
    ether,
    fragment6,
    icmp,
    icmp6,
    ip4,
    ip6,
    number,
    tcp,
    udp,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.wire.address import BROADCAST_MAC
from netemu.wire.ether import EtherType
from netemu.wire.ipv4 import Protocol
from netemu.wire.ipv6 import NextHeader
from netemu.wire.tcp import ACK, FIN, PSH, RST, SYN, URG

NC_SI = 0x88F8  # DMTF DSP0222: network controller sideband interface
ARP = b"\0\1\x08\0\6\4\0\1" + MAC + GUEST.packed + bytes(6) + GATEWAY.packed
LARGE = bytes(60_000)
CLIENT = b"\0\1\0\x0a\0\3\0\1" + MAC  # DHCPv6: a client identifier


@dataclass(frozen=True)
class Hostile:
    """`counted`: which counters grow. `answered`: how many of the frames the network answers."""

    name: str
    what: str
    frames: Callable[[], Iterable[bytes]]
    counted: tuple[str, ...]
    answered: int = 0


def truncated(frame: bytes, first: int = 14) -> Iterable[bytes]:
    return (frame[:end] for end in range(first, len(frame)))


def overlapping() -> Iterable[bytes]:
    for begin in (0, 8, 16, 24):
        yield ip4(Protocol.UDP, bytes([begin]) * 32, offset=begin, more=True)
    yield ip4(Protocol.UDP, b"x" * 8, offset=40)


def option_lengths(prefix: bytes, kinds: Iterable[int], size: int) -> Iterable[bytes]:
    """Options whose length octet is 0, 1, one too many, and 255."""
    for kind in kinds:
        for length in (0, 1, size + 1, 255):
            yield prefix + bytes([kind, length]) + bytes(size - 2)


CLASSES = (
    # The link
    Hostile(
        "short-frame",
        "0 to 13 octets, less than an Ethernet header",
        lambda: truncated(ether(EtherType.IPV4, b""), 0),
        ("malformed-ethernet",),
    ),
    Hostile("CVE-2020-29129", "NC-SI shorter than its header", lambda: truncated(ether(NC_SI, bytes(24))), ("ethertype-ignored",)),
    Hostile(
        "nc-si-oem",
        "NC-SI OEM commands (libslirp 4.9.5) whose payload length lies",
        lambda: (ether(NC_SI, bytes([0, 1, 0, 1, 0x50, 0]) + number(size) + bytes(8) + number(0x8119, 4)) for size in (0, 1, 4095)),
        ("ethertype-ignored",),
    ),
    Hostile("CVE-2020-29130", "ARP shorter than its header", lambda: truncated(ether(EtherType.ARP, ARP)), ("malformed-arp",)),
    Hostile(
        "arp-lengths",
        "ARP whose address lengths or types are none",
        lambda: (ether(EtherType.ARP, ARP[:at] + b"\xff" + ARP[at + 1 :]) for at in range(7)),
        ("malformed-arp", "arp-ignored"),
    ),
    Hostile(
        "vlan-short",
        "one, two and three VLAN tags, and nothing behind them",
        lambda: (ether(EtherType.VLAN, (b"\0\1\x81\0" * tags)[:size]) for tags in (1, 2, 3) for size in range(4 * tags)),
        ("ethertype-ignored",),
    ),
    Hostile(
        "own-frames",
        "frames and ARP in the network's own name, as a loop in the wiring brings them back",
        lambda: [
            ether(EtherType.ARP, ARP, sender=GATEWAY_MAC),
            ether(EtherType.ARP, b"\0\1\x08\0\6\4\0\2" + GATEWAY_MAC + GATEWAY.packed + MAC + GUEST.packed, to=BROADCAST_MAC),
            icmp(8, bytes(8), to=GATEWAY, mac=BROADCAST_MAC),
        ],
        ("arp-ignored", "broadcast-frame"),
        1,
    ),
    # IPv4
    Hostile("ipv4-short", "IPv4 shorter than its header", lambda: truncated(ip4(Protocol.ICMP, b"")), ("malformed-ipv4",)),
    Hostile(
        "ipv4-header-length",
        "a header length below 20, or beyond the packet",
        lambda: (ip4(1, b"", words=n) for n in (0, 1, 4, 6, 15)),
        ("malformed-ipv4",),
    ),
    Hostile(
        "ipv4-total-length",
        "a total length below the header, or beyond the frame",
        lambda: (ip4(1, bytes(8), length=n) for n in (0, 19, 29, 65_535)),
        ("malformed-ipv4",),
    ),
    Hostile(
        "ipv4-options",
        "IP options whose lengths run over",
        lambda: (ip4(1, b"\x08\0\xf7\xff" + bytes(4), options=each) for each in option_lengths(b"", (7, 68, 131, 137), 8)),
        (),
        16,
    ),
    Hostile(
        "CVE-2014-3640",
        "UDP from address 0.0.0.0 and port 0",
        lambda: [udp(b"x", port=SILENT, source_port=0, source=ANY, to=SERVER)],
        ("source-refused",),
    ),
    Hostile(
        "sources",
        "datagrams from addresses that no guest has: broadcast, multicast, loopback, the gateway (land), another network",
        lambda: (
            udp(b"x", port=SILENT, source=IPv4Address(each), to=to)
            for each in ("255.255.255.255", "224.0.0.1", "127.0.0.1", "10.0.2.2", "10.0.2.0", "10.0.2.255", "192.0.2.1")
            for to in (GATEWAY, SERVER)
        ),
        ("source-refused",),
    ),
    Hostile(
        "destinations",
        "datagrams to addresses that are nowhere, and to everybody (smurf)",
        lambda: [
            *(
                udp(b"x", port=SILENT, to=IPv4Address(each))
                for each in ("0.0.0.0", "127.0.0.1", "240.0.0.1", "224.0.0.1", "10.0.2.255")
            ),
            udp(b"x", port=SILENT, to=BROADCAST),
            icmp(8, bytes(8), to=BROADCAST),
        ],
        ("destination-refused", "broadcast-ignored"),
    ),
    # Fragments
    Hostile(
        "CVE-2019-14378",
        "a first fragment larger than anything",
        lambda: [ip4(Protocol.UDP, LARGE, more=True), ip4(Protocol.UDP, b"12345678", offset=60_000)],
        ("fragments-reassembled", "malformed-udp"),
    ),
    Hostile("CVE-2019-15890", "fragments that overlap and contradict each other", overlapping, ("fragments-contradictory",)),
    Hostile(
        "CVE-2020-1983",
        "many fragments of one datagram, backwards, the first one last",
        lambda: (ip4(Protocol.UDP, bytes(8), offset=8 * at, more=at < 999, identification=2) for at in reversed(range(1000))),
        ("fragments-reassembled", "malformed-udp"),
    ),
    Hostile(
        "CVE-2018-11806",
        "fragments that add up to more than a datagram",
        lambda: (ip4(Protocol.UDP, LARGE[:1480], offset=65_512 - 1480 * at, more=True, identification=3) for at in range(3)),
        ("fragments-oversize",),
    ),
    Hostile(
        "ping-of-death",
        "a fragment that ends behind octet 65,535",
        lambda: [ip4(1, bytes(1480), offset=65_528), ip4(1, bytes(16), offset=65_520)],
        ("fragments-oversize",),
    ),
    Hostile(
        "fragment-headers",
        "fragments whose header lengths differ (libslirp 4.9.4), together more than a datagram",
        lambda: [
            ip4(1, bytes(65_480), offset=0, more=True, options=b"\1" * 32, identification=4),
            ip4(1, bytes(24), offset=65_480, identification=4),
        ],
        ("fragments-oversize",),
    ),
    Hostile(
        "fragment-empty",
        "fragments of nothing, and of no whole 8 octets",
        lambda: [
            ip4(1, b"", offset=8, more=True, identification=5),
            ip4(1, bytes(7), more=True, identification=5),
            ip4(1, b"", offset=16, identification=5),
        ],
        ("fragments-bad-length",),
    ),
    Hostile(
        "fragment-ends",
        "two last fragments that disagree where the end is",
        lambda: [ip4(1, bytes(8), offset=64, identification=6), ip4(1, bytes(8), offset=32, identification=6)],
        ("fragments-contradictory",),
    ),
    # UDP and its services
    Hostile(
        "CVE-2021-3594",
        "UDP shorter than its header, or with a length that lies",
        lambda: [
            *(ip4(Protocol.UDP, bytes(n)) for n in range(8)),
            *(udp(b"data", port=SILENT, length=n, to=SERVER) for n in (0, 7, 13, 65_535)),
        ],
        ("malformed-udp",),
    ),
    Hostile(
        "udp-port-0",
        "UDP to port 0 and from port 0",
        lambda: [udp(b"x", port=0, to=SERVER), udp(b"x", port=0), udp(b"x", port=SILENT, source_port=0, to=SERVER)],
        ("udp-unreachable",),
        2,
    ),
    Hostile(
        "CVE-2021-3592",
        "a BOOTP message shorter than its structure",
        lambda: (dhcp_octets(b"\1\1\6\0" + bytes(n)) for n in range(0, 232, 4)),
        ("malformed-dhcpv4",),
    ),
    Hostile(
        "CVE-2017-11434",
        "a DHCP option that runs past the message",
        lambda: (dhcp(each) for each in option_lengths(b"\x35\1\3", (12, 50, 53, 54, 55, 61), 8)),
        ("dhcp-request-without-address", "malformed-dhcpv4"),
    ),
    Hostile(
        "dhcp-lies",
        "DHCP with hardware lengths, relays, overloads and empty options that are none",
        lambda: [
            dhcp(b""),
            dhcp(b"\xff"),
            dhcp(b"\x35\0\xff"),
            dhcp(b"\x35\1\xff\xff"),
            dhcp(b"\x34\1\3\x35\1\1\xff"),
            dhcp(b"\x35\1\1\x32\1\0\xff"),
        ],
        ("dhcp-unknown-type", "malformed-dhcpv4"),
        3,  # those without a message type are BOOTP's
    ),
    Hostile(
        "CVE-2021-3595",
        "TFTP shorter than its structure",
        lambda: (udp(b"\0\1file\0octet\0"[:n], port=69) for n in range(13)),
        ("malformed-tftp",),
    ),
    Hostile(
        "CVE-2020-7211",
        "TFTP paths that leave the folder, of either kind of slash",
        lambda: (
            udp(b"\0\1" + name + b"\0octet\0", port=69, source_port=6000 + at)
            for at, name in enumerate(
                (
                    b"..\\secret",
                    b"..\\..\\secret",
                    b"../secret",
                    b"a/../../secret",
                    b"/etc/passwd",
                    b"..",
                    b".",
                    b"\\\\host\\share",
                    b"C:\\secret",
                    b"file/.",
                    b"",
                    b"\xff" * 600,
                )
            )
        ),
        ("tftp-requests", "tftp-refused"),
        12,
    ),
    Hostile(
        "tftp-options",
        "TFTP options that are no numbers, or much too large",
        lambda: (
            udp(b"\0\1none\0octet\0" + name + b"\0" + value + b"\0", port=69, source_port=6100)
            for name in (b"blksize", b"timeout", b"tsize", b"windowsize")
            for value in (b"", b"-1", b"9" * 400, b"1e9", b"\xff\xfe")
        ),
        ("tftp-requests", "tftp-refused"),
        20,
    ),
    Hostile(
        "dns-lies",
        "DNS names that point at themselves, counts that lie, nothing at all",
        lambda: (
            udp(b"\0\1\1\0" + counts + bytes(6) + name, port=53, to=DNS)
            for counts in (b"\0\1", b"\xff\xff", b"\0\0")
            for name in (b"", b"\xc0\x0c\0\1\0\1", b"\xc0\xff\0\1\0\1", b"\x3f", b"\x80aaa\0\0\1\0\1")
        ),
        ("malformed-dns",),
        5,
    ),
    # ICMP
    Hostile(
        "icmp-short",
        "ICMP shorter than its header, and errors about nothing",
        lambda: [
            *(ip4(1, bytes(n)) for n in range(8)),
            *(icmp(kind, bytes(4) + b"\x45" * n) for kind in (3, 4, 5, 11, 12) for n in (0, 1, 19, 20, 27)),
        ],
        ("malformed-icmpv4",),
    ),
    Hostile(
        "icmp-unasked",
        "replies, redirects, timestamps and masks that nobody asked for",
        lambda: (icmp(kind, bytes(24)) for kind in (0, 5, 9, 10, 13, 14, 15, 16, 17, 18, 255)),
        ("icmp-ignored", "malformed-icmpv4"),
    ),
    Hostile(
        "echo-id-0",
        "echo requests with identifier 0",
        lambda: [icmp(8, bytes(4) + b"ping", to=SERVER), icmp6(128, bytes(4) + b"ping", to=SERVER6)],
        (),
        2,
    ),
    # TCP
    Hostile(
        "tcp-short",
        "TCP shorter than its header, or with a data offset that lies",
        lambda: [
            *(ip4(Protocol.TCP, bytes(n), to=SERVER) for n in range(20)),
            *(tcp(SYN, words=n, to=SERVER) for n in (0, 1, 4, 6, 15)),
        ],
        ("malformed-tcp",),
    ),
    Hostile(
        "tcp-port-0",
        "TCP to port 0 and from port 0",
        lambda: [tcp(SYN, port=0, to=SERVER), tcp(SYN, port=0), tcp(SYN, port=81, source_port=0)],
        ("tcp-econnrefused",),
        3,
    ),
    Hostile(
        "tcp-flags",
        "segments of no connection, with no flags, with all, and with pairs that make no sense",
        lambda: (
            tcp(flags, port=81, source_port=4100 + flags, to=to)
            for flags in (0, FIN, PSH, URG, FIN | PSH | URG, SYN | FIN, SYN | RST, SYN | FIN | RST | PSH | ACK | URG, 0xFF)
            for to in (GATEWAY, SERVER)
        ),
        ("tcp-unknown", "tcp-econnrefused"),
        12,
    ),
    # IPv6
    Hostile(
        "ipv6-short", "IPv6 shorter than its header", lambda: truncated(ip6(NextHeader.NO_NEXT_HEADER, b"")), ("malformed-ipv6",)
    ),
    Hostile(
        "ipv6-payload-length",
        "a payload length beyond the frame",
        lambda: (ip6(NextHeader.UDP, bytes(8), length=n) for n in (9, 1280, 65_535)),
        ("malformed-ipv6",),
    ),
    Hostile(
        "CVE-2020-10756",
        "an ICMPv6 echo request whose payload length is more than there is",
        lambda: (icmp6(128, bytes(4) + bytes(n), length=8 + n + 1000) for n in range(8)),
        ("malformed-ipv6",),
    ),
    Hostile(
        "CVE-2021-3593",
        "UDP over IPv6 shorter than its header, or with a length that lies",
        lambda: [
            *(ip6(Protocol.UDP, bytes(n)) for n in range(8)),
            *(udp(b"data", port=SILENT, length=n, source=GUEST6, to=SERVER6) for n in (0, 7, 13, 65_535)),
        ],
        ("malformed-udp",),
    ),
    Hostile(
        "ipv6-extensions",
        "extension headers that run over, and chains of hundreds",
        lambda: [
            *(ip6(kind, bytes([59, n]) + bytes(6)) for kind in (0, 43, 60) for n in (1, 255)),
            *(ip6(0, bytes([60, 0, 1, 4]) + bytes(4) + bytes([60, 0, 1, 4, 0, 0, 0, 0]) * n) for n in (150,)),
            *(ip6(0, bytes([59, 0, kind, length]) + bytes(4)) for kind in (5, 194) for length in (0, 5, 255)),
        ],
        ("malformed-ipv6", "no-next-header", "extension-refused"),
        1,
    ),
    Hostile(
        "ipv6-fragments",
        "fragments that overlap, that are empty, and that end behind octet 65,535",
        lambda: [
            fragment6(0, bytes(32), more=True),
            fragment6(16, b"x" * 32, more=True),
            fragment6(48, b"", more=False, identification=2),
            fragment6(65_528, bytes(64), more=False, identification=3),
            fragment6(0, bytes(9), more=True, identification=4),
        ],
        ("fragments-contradictory", "fragments-bad-length", "fragments-oversize"),
        1,
    ),
    Hostile(
        "ipv6-sources",
        "packets from addresses that no guest has",
        lambda: (
            udp(b"x", port=SILENT, source=IPv6Address(each), to=SERVER6)
            for each in ("::", "::1", "ff02::1", "fec0::2", "fe80::2", "2001:db8::1")
        ),
        ("source-refused",),
    ),
    Hostile(
        "nd-short",
        "neighbour discovery shorter than its structures",
        lambda: (icmp6(kind, bytes(n), hop_limit=255) for kind in (133, 134, 135, 136, 137) for n in range(0, 16, 3)),
        ("malformed-icmpv6", "malformed-nd_option", "malformed-ipv6"),
    ),
    Hostile(
        "nd-options",
        "neighbour discovery options of length 0, and beyond the message",
        lambda: (
            icmp6(135, bytes(4) + GATEWAY6.packed + each, hop_limit=255)
            for each in (b"\1\0" + bytes(6), b"\1\2" + bytes(6), b"\1\xff" + bytes(6), b"\1")
        ),
        ("malformed-nd_option",),
    ),
    Hostile(
        "nd-spoofed",
        "a guest that says it is the router, or has the router's address",
        lambda: [
            icmp6(134, bytes(12), source=LINK6, hop_limit=255),
            icmp6(136, b"\xe0\0\0\0" + ROUTER6.packed, source=LINK6, to=GATEWAY6, hop_limit=255),
            icmp6(137, bytes(4) + ROUTER6.packed + SERVER6.packed, source=ROUTER6, hop_limit=255),
        ],
        ("nd-ignored", "address-conflict", "source-refused"),
    ),
    Hostile(
        "dhcpv6-options",
        "DHCPv6 options that run over, and none",
        lambda: (
            dhcp6(each)
            for each in (
                b"\0",
                b"\0\1\0",
                b"\0\1\xff\xff",
                b"\0\1\0\x0e" + bytes(13),
                CLIENT + b"\0\3\0\4abcd",
                CLIENT + b"\0\6\0\3abc",
                CLIENT + b"\0\3\0\x10" + bytes(12) + b"\0\5\0\x18",
            )
        ),
        ("malformed-dhcpv6",),
    ),
    Hostile(
        "dhcpv6-mtu",
        "DHCPv6 that asks for more options and addresses than a packet holds (libslirp 4.9.5)",
        lambda: [
            dhcp6(CLIENT + b"\0\6" + number(1200) + b"\0\x17" * 600, kind=11),
            dhcp6(CLIENT + b"".join(b"\0\3\0\x0c" + number(n, 4) + bytes(8) for n in range(80))),
        ],
        ("dhcpv6-too-many-identities",),
        1,
    ),
)


@pytest.mark.parametrize("row", CLASSES, ids=[row.name for row in CLASSES])
def test_a_class_of_bad_input(row: Hostile, tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    with Crowd(tmp_path / "served") as crowd:
        frames = list(row.frames())
        crowd.say([ether(EtherType.ARP, ARP, to=BROADCAST_MAC)])
        before, crowd.heard = crowd.user.counters.copy(), 0
        leaks = []
        crowd.hear = lambda frame: leaks.append(frame) if b"secret" in frame else None
        crowd.say(frames)
        counted = crowd.user.counters - before
        assert counted.keys() >= set(row.counted)
        assert crowd.heard == row.answered
        assert leaks == []
        crowd.serves()


STEPS = st.tuples(
    st.sampled_from(CLASSES),
    st.integers(0, 40),
    st.integers(0, 80),
    st.sampled_from([0, 1, 0x80, 0xFF]),
    st.sampled_from([0, 0.4, 70]),
)


@settings(max_examples=50, deadline=None)
@given(steps=st.lists(STEPS, max_size=8))
def test_classes_of_bad_input_in_any_order(steps: list[tuple[Hostile, int, int, int, float]]) -> None:
    """Some frames of each, perhaps with an octet changed, and pauses in which what they left behind times out."""
    with TemporaryDirectory() as directory, Crowd(Path(directory)) as crowd:
        for row, first, at, mask, pause in steps:
            for frame in islice(row.frames(), first, first + 20):
                changed = bytearray(frame)
                if at < len(changed):
                    changed[at] ^= mask
                crowd.say([bytes(changed)])
            crowd.network.run_for(pause)
        crowd.serves()
        crowd.network.run_for(8 * 3600)
        assert [flow for flow in crowd.user.flows() if flow.state != "ESTABLISHED"] == []
