"""Floods: more of everything than a network can remember. Its memory and its work stay bounded, and the other guest is served.

Each flood runs beside a well-behaved guest in the same loop. What the network holds is weighed whole, by everything that can be
reached from it, so a table that nobody thought of weighs too; its work is counted in function calls, which do not depend on the
machine.
"""

from __future__ import annotations

import errno
import gc
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from itertools import count, islice
from pathlib import Path
from types import BuiltinFunctionType, FrameType, FunctionType, ModuleType

import pytest
from crowd import DNS, DNS6, ECHO, GATEWAY, GATEWAY6, GUEST6, LINK6, SERVER, SERVER6, SILENT, Crowd
from hostile_frames import dhcp, dhcp6, ether, fragment6, icmp, icmp6, ip4, ip6, number, tcp, udp

from netemu.errors import HostError
from netemu.io.simhost import SimHost
from netemu.net.loop import VirtualLoop
from netemu.wire.address import BROADCAST_MAC, MacAddress
from netemu.wire.ether import EtherType
from netemu.wire.ipv4 import Protocol
from netemu.wire.ipv6 import NextHeader
from netemu.wire.tcp import ACK, SYN

KIBIBYTE = 1 << 10
LASTS = 48  # milliseconds: longer than what the other guest does, and enough to fill most tables
SAMPLE = 100  # frames over which work is measured
WORK = 3  # times as much may a frame cost when the tables are full, in function calls


def mac(n: int) -> MacAddress:
    return MacAddress(b"\x52\x56" + n.to_bytes(4, "big"))


def neighbour(n: int) -> IPv4Address:
    return IPv4Address(int(IPv4Address("10.0.128.0")) + n % 30_000)


def neighbour6(n: int) -> IPv6Address:
    return IPv6Address(int(IPv6Address("fec0::1:0:0:0")) + n)


def arp(n: int) -> bytes:
    sender = b"\0\1\x08\0\6\4\0\1" + mac(n) + neighbour(n).packed
    return ether(EtherType.ARP, sender + bytes(6) + GATEWAY.packed, to=BROADCAST_MAC, sender=mac(n))


def solicitation(n: int) -> bytes:
    return icmp6(135, bytes(4) + GATEWAY6.packed + b"\1\1" + mac(n), source=neighbour6(n), hop_limit=255)


def question(n: int) -> bytes:
    return number(n & 0xFFFF) + b"\1\0\0\1" + bytes(6) + b"\4host\4test\0\0\1\0\1"


@dataclass(frozen=True)
class Flood:
    """`limit`: octets that the network may weigh more than an idle one. `rate`: frames a millisecond; a round trip takes two."""

    name: str
    frame: Callable[[int], bytes]
    limit: int = 64 * KIBIBYTE
    rate: int = 50


FLOODS = (
    Flood("arp", arp, 512 * KIBIBYTE),
    Flood("neighbour solicitations", solicitation, 1024 * KIBIBYTE),
    Flood(
        "router solicitations",
        lambda n: icmp6(133, bytes(4) + b"\1\1" + mac(n), source=LINK6, to=IPv6Address("ff02::2"), hop_limit=255),
    ),
    Flood("spoofed echo", lambda n: ip4(Protocol.ICMP, b"\x08\0\xf7\xff" + bytes(1000), source=neighbour(n)), 4096 * KIBIBYTE),
    Flood(
        "echo for neighbours that never answer",
        lambda n: ip4(Protocol.ICMP, b"\x08\0\xf7\xff" + bytes(1000), source=neighbour(n // 128)),
        2048 * KIBIBYTE,
    ),
    Flood("spoofed echo over IPv6", lambda n: icmp6(128, bytes(1000), source=neighbour6(n)), 4096 * KIBIBYTE),
    Flood("syn", lambda n: tcp(SYN, source_port=1 + n % 65_000, port=ECHO, to=SERVER), 1024 * KIBIBYTE, rate=100),
    Flood(
        "syn over IPv6",
        lambda n: tcp(SYN, source_port=1 + n % 65_000, port=ECHO, source=GUEST6, to=SERVER6),
        1024 * KIBIBYTE,
        rate=100,
    ),
    Flood("syn to closed ports", lambda n: tcp(SYN, source_port=1 + n % 65_000, port=1 + n % 60_000, to=GATEWAY)),
    Flood(
        "segments of no connection", lambda n: tcp(ACK, source_port=1 + n % 65_000, port=80, sequence=n, data=bytes(100), to=SERVER)
    ),
    Flood("fragments", lambda n: ip4(Protocol.UDP, bytes(1024), offset=1024, more=True, identification=n & 0xFFFF), 256 * KIBIBYTE),
    Flood("last fragments", lambda n: ip4(Protocol.UDP, bytes(1024), offset=64_000, identification=n & 0xFFFF), 4352 * KIBIBYTE),
    Flood(
        "small fragments",
        lambda n: ip4(Protocol.UDP, bytes(8), offset=16 * (n % 250), more=True, identification=n // 250),
        1024 * KIBIBYTE,
    ),
    Flood("fragments over IPv6", lambda n: fragment6(64_000, bytes(1024), more=False, identification=n), 4352 * KIBIBYTE),
    Flood("small fragments over IPv6", lambda n: fragment6(8 * (n % 8000), bytes(8), more=True, identification=n // 8000)),
    Flood("udp flows", lambda n: udp(bytes(1000), source_port=1 + n % 65_000, port=SILENT, to=SERVER), 12288 * KIBIBYTE),
    Flood(
        "udp flows over IPv6",
        lambda n: udp(bytes(1000), source_port=1 + n % 65_000, port=SILENT, source=neighbour6(n), to=SERVER6),
        12288 * KIBIBYTE,
    ),
    Flood("udp remotes", lambda n: udp(bytes(1000), port=100 + n % 60_000, to=SERVER), 2048 * KIBIBYTE),
    Flood("echo", lambda n: icmp(8, number(n & 0xFFFF) + number(n >> 16) + bytes(1000), to=SERVER), 512 * KIBIBYTE),
    Flood("echo in one session", lambda n: icmp(8, number(7) + number(n & 0xFFFF) + bytes(1000), to=SERVER), 512 * KIBIBYTE),
    Flood("dhcp clients", lambda n: dhcp(b"\x35\1\1\xff", mac=mac(n))),
    Flood("dhcp requests", lambda n: dhcp(b"\x35\1\3\x32\4" + neighbour(n).packed + b"\xff", mac=mac(n))),
    Flood("dhcpv6 clients", lambda n: dhcp6(b"\0\1\0\x0a\0\3\0\1" + mac(n) + b"\0\3\0\x0c" + bytes(12))),
    Flood("tftp requests", lambda n: udp(b"\0\1file\0octet\0", source_port=1 + n % 65_000, port=69), 512 * KIBIBYTE),
    Flood("dns questions", lambda n: udp(question(n), source_port=1 + n % 65_000, port=53, to=DNS)),
    Flood("dns questions over IPv6", lambda n: udp(question(n), source_port=1 + n % 65_000, port=53, source=LINK6, to=DNS6)),
    Flood(
        "no protocol",
        lambda n: ip4(n % 256, bytes(1000), to=SERVER) if n % 256 not in (1, 6, 17) else ip6(NextHeader.FRAGMENT, b""),
        256 * KIBIBYTE,
    ),
)
OUTSIDE = (ModuleType, FunctionType, BuiltinFunctionType, FrameType, type, SimHost, VirtualLoop)  # not the network's


def weight(root: object) -> int:
    """Octets of everything that can be reached from `root`."""
    seen = {id(root)}
    waiting, octets = [root], 0
    while waiting:
        each = waiting.pop()
        octets += sys.getsizeof(each)
        for referent in gc.get_referents(each):
            if id(referent) not in seen and not isinstance(referent, OUTSIDE):
                seen.add(id(referent))
                waiting.append(referent)
    return octets


@pytest.fixture
def crowd(tmp_path: Path) -> Iterator[Crowd]:
    with Crowd(tmp_path, ",net=10.0.0.0/16,host=10.0.2.2,dns=10.0.2.3,dhcpstart=10.0.2.15,smbserver=10.0.2.4") as crowd:
        yield crowd


def work(crowd: Crowd, frames: Iterator[bytes]) -> int:
    """Function calls that `frames` lead to."""
    calls = 0

    def called(_frame: FrameType, event: str, _: object) -> None:
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    sys.setprofile(called)
    try:
        crowd.say(frames)
    finally:
        sys.setprofile(before)
    return calls


@pytest.mark.parametrize("flood", FLOODS, ids=[flood.name for flood in FLOODS])
def test_a_flood(crowd: Crowd, flood: Flood) -> None:
    crowd.serves()
    frames = map(flood.frame, count())
    idle = weight(crowd.user.network)
    light = work(crowd, islice(frames, SAMPLE))
    first = islice(frames, LASTS * flood.rate)
    crowd.flood(first, flood.rate)
    crowd.serves()
    assert next(first, None) is not None  # it went on all the while
    crowd.network.run_for(LASTS / 1000)
    full = weight(crowd.user.network) - idle
    crowd.flood(islice(frames, LASTS // 2 * flood.rate), flood.rate)
    crowd.network.run_for(LASTS / 1000)
    more = weight(crowd.user.network) - idle
    heavy = work(crowd, islice(frames, SAMPLE))
    crowd.serves()
    assert (full <= flood.limit, more <= flood.limit) == (True, True), (full, more)
    assert heavy <= WORK * light, (light, heavy)
    assert max(crowd.port.counters["dropped-full"], crowd.user.counters["inbox-full"], crowd.user.counters["output-full"]) == 0


def test_a_host_without_descriptors(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one guest's flows took is given to whoever comes next, the longest idle first."""
    descriptors = 100

    def scarce(name: str) -> None:
        opener = getattr(crowd.host, name)

        def opened(*args: object) -> object:
            if len(crowd.user.flows()) >= descriptors:
                raise HostError(errno.EMFILE, name)
            return opener(*args)

        monkeypatch.setattr(crowd.host, name, opened)

    for name in ("open_datagram", "open_stream", "open_ping"):
        scarce(name)
    frames = (udp(bytes(100), source_port=1 + number, port=SILENT, to=SERVER) for number in count())
    crowd.say(islice(frames, 3 * descriptors))
    assert len(crowd.user.flows()) == descriptors
    crowd.flood(islice(frames, 1000), 20)
    crowd.serves()
    assert crowd.user.counters["tcp-host-failed"] == crowd.user.counters["ping-failed"] == crowd.user.counters["udp-refused"] == 0
