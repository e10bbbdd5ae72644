"""Mutation: a pytest plugin that runs each check of a suite against implementations broken on purpose.

A mutant is our own user-mode network (or guest) with one thing wrong. Most are frame rewriters: a function between the
cable and what the suite judges, in one direction, that changes, drops or adds frames; what looks from outside like a wrong
implementation is one. The others patch a function or a constant. Each names the requirements whose checks must notice it.

Loaded with `-p mutation`; the tables are `mutants.MUTANTS`, by the suite's package.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from netemu.net.port import FrameView
from netemu.stack.dual import DualStack
from netemu.user.network import UserNetwork
from netemu.wire.arp import Arp
from netemu.wire.checksum import internet_checksum
from netemu.wire.dhcpv4 import Dhcpv4
from netemu.wire.dns import DnsMessage
from netemu.wire.ether import Ethernet, EtherType
from netemu.wire.icmpv4 import Icmpv4
from netemu.wire.ipv4 import IPv4, Protocol
from netemu.wire.tcp import Tcp
from netemu.wire.udp import Udp
from netemu.wire.vnet_hdr import VnetHeader
from pytest_netemu.packet import Packet
from pytest_netemu.suites import WALLS

IP = 14  # where the datagram begins in a frame, and the transport's header in a frame without IP options
TRANSPORT = 34
Rewrite = Callable[[Packet], Iterable[bytes]]


@dataclass(frozen=True)
class Mutant:
    """One broken implementation. `into` and `out` rewrite what it gets and sends; `patch` breaks code."""

    name: str
    killed_by: tuple[str, ...]
    into: Rewrite | None = None
    out: Rewrite | None = None
    patch: Callable[[pytest.MonkeyPatch], None] | None = None

    def apply(self, monkeypatch: pytest.MonkeyPatch, judged: str) -> None:
        into, out = copy.deepcopy((self.into, self.out))  # those with a memory forget what an earlier test did
        _REWRITE[judged](monkeypatch, into or _as_it_is, out or _as_it_is)
        if self.patch is not None:
            self.patch(monkeypatch)


def _as_it_is(packet: Packet) -> Iterable[bytes]:
    return [packet.frame]


def _rewrite_network(monkeypatch: pytest.MonkeyPatch, into: Rewrite, out: Rewrite) -> None:
    monkeypatch.setattr(UserNetwork, "receive_offloaded", _receiving(into))
    monkeypatch.setattr(UserNetwork, "transmit_offloaded", _transmitting(out))


def _receiving(rewrite: Rewrite) -> Callable[[UserNetwork, FrameView, VnetHeader | None, int], bool]:
    receive = UserNetwork.receive_offloaded

    def rewritten(network: UserNetwork, frame: FrameView, header: VnetHeader | None, now: int) -> bool:
        assert header is None, "no link of the suite has offloads"
        for each in rewrite(Packet.read(bytes(frame), now)):
            receive(network, each, None, now)
        return True

    return rewritten


def _transmitting(rewrite: Rewrite) -> Callable[[UserNetwork, int, int], Iterator[tuple[FrameView, VnetHeader | None]]]:
    transmit = UserNetwork.transmit_offloaded

    def rewritten(network: UserNetwork, now: int, offloads: int) -> Iterator[tuple[FrameView, VnetHeader | None]]:
        for frame, header in transmit(network, now, offloads):
            assert header is None, "no link of the suite has offloads"
            for each in rewrite(Packet.read(bytes(frame), now)):
                yield each, None

    return rewritten


def _rewrite_guest(monkeypatch: pytest.MonkeyPatch, into: Rewrite, out: Rewrite) -> None:
    receive, transmit = DualStack.receive, DualStack.transmit

    def receive_rewritten(stack: DualStack, frame: bytes, now: int) -> None:
        for each in into(Packet.read(frame, now)):
            receive(stack, each, now)

    def transmit_rewritten(stack: DualStack, now: int) -> list[bytes]:
        return [each for frame in transmit(stack, now) for each in out(Packet.read(frame, now))]

    monkeypatch.setattr(DualStack, "receive", receive_rewritten)
    monkeypatch.setattr(DualStack, "transmit", transmit_rewritten)


_REWRITE = {"backend": _rewrite_network, "guest": _rewrite_guest}


# Rewriters


def change(layer: type, condition: Callable[[Any], bool] = lambda _: True, **fields: object) -> Rewrite:
    """Frames with `layer` get other fields in it; a value that is a function is called with the layer."""

    def rewrite(packet: Packet) -> Iterable[bytes]:
        if layer not in packet or not condition(packet.layers[layer]):
            return [packet.frame]
        return [changed(packet, layer, **fields)]

    return rewrite


def changed(packet: Packet, layer: type, **fields: object) -> bytes:
    """The frame with other fields in `layer`, and every checksum right again."""
    old = packet.layers[layer]
    new = replace(old, **{name: value(old) if callable(value) else value for name, value in fields.items()})  # type: ignore[type-var]
    layers = {**packet.layers, layer: new}
    ethernet, ip = layers[Ethernet], layers.get(IPv4)
    if layer is Ethernet:
        return ethernet.pack()
    if layer is Arp:
        return replace(ethernet, payload=new.pack()).pack()
    if layer in (Dhcpv4, DnsMessage):
        layers[Udp] = replace(layers[Udp], payload=new.pack())
    for transport in (Udp, Tcp):
        if transport in layers:
            ip = replace(ip, payload=layers[transport].pack(ip.source, ip.destination))
    if Icmpv4 in layers:
        ip = replace(ip, payload=layers[Icmpv4].pack())
    return replace(ethernet, payload=ip.pack()).pack()


def drop(layer: type, condition: Callable[[Any], bool] = lambda _: True) -> Rewrite:
    """Frames with `layer` vanish."""
    return lambda packet: [] if layer in packet and condition(packet.layers[layer]) else [packet.frame]


def both(*rewrites: Rewrite) -> Rewrite:
    """One after the other."""

    def rewrite(packet: Packet) -> Iterable[bytes]:
        frames = [packet.frame]
        for each in rewrites:
            frames = [found for frame in frames for found in each(Packet.read(frame, packet.time))]
        return frames

    return rewrite


def octets(condition: Callable[[bytes], bool], edit: Callable[[bytearray], None]) -> Rewrite:
    """Frames whose octets meet the condition are edited in place."""

    def rewrite(packet: Packet) -> Iterable[bytes]:
        frame = bytearray(packet.frame)
        if condition(packet.frame):
            edit(frame)
        return [bytes(frame)]

    return rewrite


def is_ip(protocol: int | None = None) -> Callable[[bytes], bool]:
    """Octets that are an IPv4 frame of that protocol."""
    return lambda frame: frame[12:14] == b"\x08\x00" and (protocol is None or frame[23] == protocol)


def is_arp(frame: bytes) -> bool:
    return frame[12:14] == EtherType.ARP.to_bytes(2)


def mend_header(frame: bytearray) -> None:
    """Make it version 4 with a right header checksum, whatever it was."""
    frame[IP] = 0x45
    frame[IP + 10 : IP + 12] = bytes(2)
    frame[IP + 10 : IP + 12] = internet_checksum(bytes(frame[IP:TRANSPORT])).to_bytes(2)


def mend_icmp(frame: bytearray) -> None:
    """Make an ICMP checksum right, whatever it was."""
    frame[TRANSPORT + 2 : TRANSPORT + 4] = bytes(2)
    frame[TRANSPORT + 2 : TRANSPORT + 4] = internet_checksum(bytes(frame[TRANSPORT:])).to_bytes(2)


def mend_tcp(frame: bytearray) -> None:
    """Make a TCP checksum right, whatever it was."""
    ip = IPv4.parse(bytes(frame[IP:]))
    packed = Tcp.parse(ip.payload).pack(ip.source, ip.destination)
    frame[TRANSPORT + 16 : TRANSPORT + 18] = packed[16:18]


def pad_counts(packet: Packet) -> Iterable[bytes]:
    """What is behind an ICMP message in its frame is taken for part of it."""
    if Icmpv4 not in packet:
        return [packet.frame]
    behind = packet.frame[IP + len(packet[IPv4].pack()) :]
    return [changed(packet, Icmpv4, payload=packet[Icmpv4].payload + behind)]


def datagram_of(packet: Packet, transport: Udp) -> bytes:
    """A UDP datagram in place of what `packet` carries."""
    ip = packet[IPv4]
    payload = transport.pack(ip.source, ip.destination)
    return replace(packet[Ethernet], payload=replace(ip, protocol=Protocol.UDP, ttl=64, payload=payload).pack()).pack()


# Rewriters with a memory


class DropLater:
    """From the first frame that meets `trigger` on, frames that meet `victim` vanish."""

    def __init__(self, trigger: Callable[[Packet], bool], victim: Callable[[Packet], bool]) -> None:
        self._trigger, self._victim = trigger, victim
        self._triggered = False

    def __call__(self, packet: Packet) -> Iterable[bytes]:
        self._triggered = self._triggered or self._trigger(packet)
        return [] if self._triggered and self._victim(packet) else [packet.frame]


class DropIdle:
    """TCP after so many nanoseconds without any is not let through."""

    def __init__(self, idle: int) -> None:
        self._idle = idle
        self._last: int | None = None

    def __call__(self, packet: Packet) -> Iterable[bytes]:
        if Tcp not in packet:
            return [packet.frame]
        if self._last is not None and packet.time - self._last > self._idle:
            return []
        self._last = packet.time
        return [packet.frame]


class FirstMac:
    """All that is for one address goes to the hardware address it had first."""

    def __init__(self) -> None:
        self._known: Any = None

    def __call__(self, packet: Packet) -> Iterable[bytes]:
        if IPv4 not in packet:
            return [packet.frame]
        self._known = self._known or packet[Ethernet].destination
        return [changed(packet, Ethernet, destination=self._known)]


class InOrderOnly:
    """A segment that does not follow what came before is thrown away."""

    def __init__(self) -> None:
        self._next: int | None = None

    def __call__(self, packet: Packet) -> Iterable[bytes]:
        if Tcp in packet:
            segment = packet[Tcp]
            if segment.payload and self._next is not None and segment.sequence != self._next:
                return []
            if segment.segment_length:
                self._next = segment.sequence + segment.segment_length
        return [packet.frame]


class InOrderFragments:
    """A fragment before which one is missing is thrown away."""

    def __init__(self) -> None:
        self._end = 0

    def __call__(self, packet: Packet) -> Iterable[bytes]:
        if IPv4 in packet and packet[IPv4].is_fragment:
            piece = packet[IPv4]
            if piece.fragment_offset != self._end:
                return []
            self._end += len(piece.payload)
        return [packet.frame]


class NeverAgain:
    """A data segment is sent once; with `allowed` so many times."""

    def __init__(self, allowed: int = 1, *, reset: bool = False) -> None:
        self._allowed, self._reset = allowed, reset
        self._seen: dict[int, int] = {}

    def __call__(self, packet: Packet) -> Iterable[bytes]:
        if Tcp not in packet or not packet[Tcp].payload:
            return [packet.frame]
        number = packet[Tcp].sequence
        self._seen[number] = self._seen.get(number, 0) + 1
        if self._seen[number] <= self._allowed:
            return [packet.frame]
        return [changed(packet, Tcp, flags=4, payload=b"")] if self._reset else []


# The plugin


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    from mutants import MUTANTS

    wall = next(wall for wall in WALLS.values() if metafunc.module.__name__.startswith(f"{wall.package}."))
    judged = {mark.kwargs["id"] for mark in metafunc.definition.iter_markers("netemu_clause")}
    chosen = [mutant for mutant in MUTANTS[wall.package] if judged & set(mutant.killed_by)]
    names = [mutant.name for mutant in chosen]
    metafunc.parametrize("mutant", [(mutant, wall.judges) for mutant in chosen], ids=names, indirect=True)


@pytest.fixture(autouse=True)  # and so in place before any network is made
def mutant(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    broken, judged = request.param
    broken.apply(monkeypatch, judged)
