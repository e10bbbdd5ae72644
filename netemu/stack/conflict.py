"""Address conflict detection: claim an IPv4 address on the link, then defend it (RFC 5227).

Theory of operation. A claim first probes: requests for the address from nobody (sender 0.0.0.0), at random distances. Any answer,
or somebody else's probe for the same address, loses it (RFC 5227 2.1.1). After a quiet time the address is ours and is
announced (2.3). From then on a packet from the address with another MAC is defended against once in ten seconds, and the second
within them loses the address (2.4, choice (b)).

The numbers are data: `RFC5227` takes five to nine seconds, `QUICK` probes once and waits 200 ms, for machines where
the user waits in real time.

The claim sees every ARP packet of the interface and gives the packets to send; it does not touch the neighbour cache. What is not
done: link-local addresses (RFC 3927) and the limit of ten conflicts (RFC 5227 2.1.1), for the DHCP client's own pause covers it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import IPv4Address
from typing import Final

from netemu.net.clock import MILLISECOND, SECOND
from netemu.wire.address import ZERO_MAC, MacAddress
from netemu.wire.arp import Arp, ArpOperation
from netemu.wire.fields import ANY_IPV4

__all__ = ["QUICK", "RFC5227", "AddressClaim", "ClaimState", "ClaimTiming"]


@dataclass(frozen=True, slots=True)
class ClaimTiming:
    """The constants of RFC 5227 1.1, in nanoseconds and counts; field names are the document's."""

    probe_wait: int = 1 * SECOND
    probe_num: int = 3
    probe_min: int = 1 * SECOND
    probe_max: int = 2 * SECOND
    announce_wait: int = 2 * SECOND
    announce_num: int = 2
    announce_interval: int = 2 * SECOND
    defend_interval: int = 10 * SECOND


RFC5227: Final = ClaimTiming()
QUICK: Final = ClaimTiming(probe_wait=0, probe_num=1, announce_wait=200 * MILLISECOND, announce_num=1)


class ClaimState(Enum):
    """How far a claim is."""

    PROBING = auto()
    ANNOUNCING = auto()  # the address may be used from here on (RFC 5227 2.3)
    OWNED = auto()
    LOST = auto()


class AddressClaim:
    """One interface's claim to `address`; begins at `now`. `getrandbits` spaces the probes."""

    def __init__(
        self, mac: MacAddress, address: IPv4Address, getrandbits: Callable[[int], int], now: int, timing: ClaimTiming = RFC5227
    ) -> None:
        self.mac = mac
        self.address = address
        self.state = ClaimState.PROBING
        self._getrandbits = getrandbits
        self._timing = timing
        self._sent = 0
        self._defended: int | None = None
        self._due: int | None = now + self._random(0, timing.probe_wait)
        self._output: list[Arp] = []

    @property
    def usable(self) -> bool:
        """Nobody objected in time."""
        return self.state in (ClaimState.ANNOUNCING, ClaimState.OWNED)

    def receive(self, arp: Arp, now: int) -> None:
        """An ARP packet of the interface; it may be an objection."""
        if self.state is ClaimState.LOST or arp.sender_mac == self.mac:
            return
        if arp.sender_ip == self.address:
            self._challenged(now)
        elif (
            self.state is ClaimState.PROBING
            and arp.target_ip == self.address
            and arp.sender_ip == ANY_IPV4
            and arp.operation == ArpOperation.REQUEST
        ):
            self._lose()  # somebody else probes for it

    def transmit(self) -> list[Arp]:
        """Probes and announcements to broadcast now."""
        output, self._output = self._output, []
        return output

    def deadline(self) -> int | None:
        return self._due

    def expire(self, now: int) -> None:
        """Send the next probe or announcement when it is due."""
        if self._due is None or self._due > now:
            return
        if self.state is ClaimState.PROBING and self._sent < self._timing.probe_num:
            self._probe(now)
        else:
            self._announce(now)

    def _probe(self, now: int) -> None:
        timing = self._timing
        self._send(ANY_IPV4)
        last = self._sent == timing.probe_num
        self._due = now + (timing.announce_wait if last else self._random(timing.probe_min, timing.probe_max))

    def _announce(self, now: int) -> None:
        if self.state is ClaimState.PROBING:
            self.state, self._sent = ClaimState.ANNOUNCING, 0
        self._send(self.address)
        if self._sent < self._timing.announce_num:
            self._due = now + self._timing.announce_interval
        else:
            self.state, self._due = ClaimState.OWNED, None

    def _challenged(self, now: int) -> None:
        recently = self._defended is not None and now - self._defended < self._timing.defend_interval
        if self.state is ClaimState.PROBING or recently:
            self._lose()
        else:
            self._defended = now
            self._send(self.address)

    def _lose(self) -> None:
        self.state, self._due = ClaimState.LOST, None
        self._output.clear()

    def _send(self, sender: IPv4Address) -> None:
        self._sent += 1
        self._output.append(Arp(ArpOperation.REQUEST, self.mac, sender, ZERO_MAC, self.address))

    def _random(self, low: int, high: int) -> int:
        return low + (self._getrandbits(32) * (high - low) >> 32)
