"""Packets that wait until it is known where their neighbour is.

Some may wait for one neighbour, and not many more for all of them: whoever makes up neighbours that never answer would else fill
the memory with packets for them. Where there is no room the oldest gives way: of the same neighbour, or of all.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Generic, TypeVar

from netemu.wire.address import IPAddress

__all__ = ["MAX_PARKED", "MAX_PARKED_IN_ALL", "Parking"]

MAX_PARKED: Final = 128  # for one neighbour: a 64 KB datagram's fragments at an MTU of 576. RFC 1122 2.3.2.2 wants one
MAX_PARKED_IN_ALL: Final = 1024

Address = TypeVar("Address", bound=IPAddress)
Packet = TypeVar("Packet")


class Parking(Generic[Address, Packet]):
    """The waiting packets of one neighbour cache."""

    def __init__(self) -> None:
        self._waiting: dict[Address, deque[Packet]] = {}  # none of them empty
        self._count = 0

    def put(self, address: Address, packet: Packet) -> bool:
        """`packet` waits for `address`; True: an older one had to go."""
        full = len(self._waiting.get(address, ())) >= MAX_PARKED
        crowded = full or self._count >= MAX_PARKED_IN_ALL
        if crowded:
            self._drop(address if full else next(iter(self._waiting)))
        self._waiting.setdefault(address, deque()).append(packet)
        self._count += 1
        return crowded

    def take(self, address: Address) -> tuple[Packet, ...]:
        """What waited for `address`, oldest first."""
        packets = tuple(self._waiting.pop(address, ()))
        self._count -= len(packets)
        return packets

    def clear(self) -> None:
        """Nothing waits any more."""
        self._waiting.clear()
        self._count = 0

    def _drop(self, address: Address) -> None:
        packets = self._waiting[address]
        packets.popleft()
        self._count -= 1
        if not packets:
            del self._waiting[address]
