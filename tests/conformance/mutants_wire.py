"""Mutants of a guest. Those that break frames are the user network's own: what is wrong on a wire is wrong on either side."""

from __future__ import annotations

from mutant_parts import GUEST
from mutants_ip import ARP
from mutation import Mutant, change

from netemu.wire.arp import Arp

WIRE_ARP = (
    *(mutant for mutant in ARP if mutant.name != "arp_answers_for_all"),
    Mutant("arp_answers_for_all", ("rfc826/reception/04",), into=change(Arp, target_ip=GUEST)),
)
