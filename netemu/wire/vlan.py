"""The VLAN tag (IEEE 802.1Q-2018 9.6): what follows EtherType 0x8100.

Two octets of tag control information, then the EtherType of what the tag was put in front of. Tags nest: parse the
payload again when `ethertype` is 0x8100.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, Self

from netemu.wire.fields import Buffer, check_limits, pack_fields, unpack_fields

__all__ = ["Vlan"]

_TAG: Final = struct.Struct("!HH")
_DROP_ELIGIBLE: Final = 0x1000
_LIMITS: Final = {"priority": 7, "vlan_id": 0xFFF, "ethertype": 0xFFFF}


@dataclass(frozen=True, slots=True)
class Vlan:
    """One tag: `priority` (PCP) 0..7, `drop_eligible` (DEI), `vlan_id` (VID) 0..4095, where 0 tags the priority only."""

    priority: int
    drop_eligible: bool
    vlan_id: int
    ethertype: int
    payload: bytes

    @classmethod
    def parse(cls, data: Buffer) -> Self:
        """Read the tag from what follows the EtherType 0x8100; raises `WireError`."""
        control, ethertype = unpack_fields(_TAG, data, "vlan")
        return cls(control >> 13, bool(control & _DROP_ELIGIBLE), control & 0xFFF, ethertype, bytes(data[_TAG.size :]))

    def pack(self) -> bytes:
        """What goes behind the EtherType 0x8100."""
        check_limits(self, _LIMITS)
        control = self.priority << 13 | (_DROP_ELIGIBLE if self.drop_eligible else 0) | self.vlan_id
        return pack_fields(_TAG, self, _LIMITS, control, self.ethertype) + self.payload
