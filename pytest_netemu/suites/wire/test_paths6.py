"""Path MTU discovery of a guest (RFC 8201)."""

from __future__ import annotations

import pytest

from netemu.wire.icmpv6 import Icmpv6
from netemu.wire.ipv6 import MINIMUM_MTU, IPv6
from pytest_netemu.packet import Packet
from pytest_netemu.suites import judges
from pytest_netemu.wire import Wire
from pytest_netemu.wire6 import ELSEWHERE, Wire6

pytestmark = pytest.mark.netemu_requires("slaac", "ping")

_SIZE = 1400  # octets of an echo request's data
_WHOLE = 40 + 8 + _SIZE
_UNHEARD = 0.1  # seconds that the guest waits for an answer which never comes


def _told(netemu_wire: Wire, *mtus: int) -> list[int]:
    """The sizes of what the guest sends far away after a router on the path told it these MTUs."""
    six = Wire6(netemu_wire).up()

    def complain(packet: Packet) -> None:
        for mtu in mtus:
            six.send_icmp(Icmpv6.packet_too_big(mtu, packet[IPv6].pack()), six.guest_address)

    quiet = netemu_wire.answer(IPv6, complain, destination=ELSEWHERE)
    six.guest.ping(ELSEWHERE, size=_SIZE, timeout=_UNHEARD)
    six.barrier()
    quiet()
    netemu_wire.inbox.clear()
    six.guest.ping(ELSEWHERE, size=_SIZE, timeout=_UNHEARD)
    six.barrier()
    return [len(packet[IPv6].pack()) for packet in netemu_wire.inbox if IPv6 in packet and packet[IPv6].destination == ELSEWHERE]


@judges("rfc8201/4/01")
@pytest.mark.parametrize("mtu", [MINIMUM_MTU, 1400])
def test_a_smaller_mtu_is_heeded(netemu_wire: Wire, mtu: int) -> None:
    sizes = _told(netemu_wire, mtu)
    assert len(sizes) == 2
    assert mtu - 8 < max(sizes) <= mtu


@judges("rfc8201/4/02")
def test_less_than_the_least_is_discarded(netemu_wire: Wire) -> None:
    assert _told(netemu_wire, MINIMUM_MTU - 1) == [_WHOLE]


@judges("rfc8201/4/03")
def test_a_larger_mtu_raises_nothing(netemu_wire: Wire) -> None:
    sizes = _told(netemu_wire, 1300, 1450)
    assert len(sizes) == 2
    assert max(sizes) <= 1300
