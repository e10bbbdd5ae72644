"""The driver's memory as a device sees it: regions of addresses, and what lies behind them.

An address comes from the other side of the wall, so it is only good if the whole range it names lies in one region. A range over
two regions that touch is refused as well: no driver makes one, since a region is what its machine got in one piece.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["GuestMemory", "MemoryRegion", "OutsideMemoryError"]


class OutsideMemoryError(Exception):
    """An address range that is not in the driver's memory; a queue counts it, and it goes no further."""


@dataclass(frozen=True, slots=True)
class MemoryRegion:
    """`view` is what lies at `address`, for its whole length in octets."""

    address: int
    view: memoryview


class GuestMemory:
    """The regions that a device may touch."""

    __slots__ = ("_regions",)

    def __init__(self, regions: Iterable[MemoryRegion] = ()) -> None:
        self._regions = tuple((region.address, region.address + len(region.view), region.view) for region in regions)

    def range(self, address: int, length: int) -> memoryview:
        """The `length` octets at `address`, writable in place; `OutsideMemoryError` if any of them is not there."""
        for start, end, view in self._regions:
            if start <= address and address + length <= end:
                return view[address - start : address - start + length]
        raise OutsideMemoryError(f"{length} octets at {address:#x}")
