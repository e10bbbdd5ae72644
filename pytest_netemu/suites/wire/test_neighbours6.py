"""Neighbour discovery of a guest: it answers for its addresses, and asks for its neighbours' (RFC 4861 7)."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from netemu.wire.address import MacAddress
from netemu.wire.ether import Ethernet
from netemu.wire.icmpv6 import Icmpv6, Icmpv6Type
from netemu.wire.ipv6 import ALL_NODES, IPv6, multicast_mac, solicited_node
from netemu.wire.ndisc import NeighbourAdvertisement, NeighbourSolicitation
from netemu.wire.ndisc_options import NdOption, SourceLinkLayerAddress, TargetLinkLayerAddress
from pytest_netemu.packet import Packet
from pytest_netemu.station6 import ANY6
from pytest_netemu.suites import judges
from pytest_netemu.wire import Wire
from pytest_netemu.wire6 import PREFIX, Wire6

pytestmark = pytest.mark.netemu_requires("slaac")

_NEIGHBOUR = PREFIX[0x99]
_OTHER_MAC = MacAddress("52:54:00:7e:57:03")


def _macs(options: tuple[NdOption, ...], kind: type[SourceLinkLayerAddress | TargetLinkLayerAddress]) -> list[MacAddress]:
    return [option.address for option in options if isinstance(option, kind)]


# Answers


@judges("rfc4861/7.2.4/01")
@judges("rfc4861/7.2.4/04")
@judges("rfc4861/7.2.4/05")
@pytest.mark.parametrize("which", ["guest_address", "opposite"])
def test_a_solicitation_is_answered_to_who_asked(netemu_wire: Wire, which: str) -> None:
    six = Wire6(netemu_wire).up()
    target = getattr(six, which)
    six.solicit(target)
    packet = netemu_wire.expect(NeighbourAdvertisement, target=target)
    answer = packet[NeighbourAdvertisement]
    assert packet[IPv6].destination == six.link_local
    assert answer.solicited
    assert not answer.router
    assert _macs(answer.options, TargetLinkLayerAddress) == [packet[Ethernet].source] == [netemu_wire.guest.mac]


@judges("rfc4861/7.2.4/02")
@judges("rfc4862/5.4.3/01")
def test_who_has_no_address_yet_is_answered_through_all_nodes(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire).up()
    six.solicit(six.guest_address, source=ANY6)
    answer = netemu_wire.expect(NeighbourAdvertisement, target=six.guest_address)
    assert answer[IPv6].destination == ALL_NODES
    assert not answer[NeighbourAdvertisement].solicited


@dataclass(frozen=True)
class _Solicitation:
    """What is wrong with a solicitation for the guest's address."""

    hop_limit: int = 255
    code: int = 0
    cut: int = 0  # octets missing at the end
    flip: int = 0  # bits of the checksum
    from_nobody: bool = False
    options: tuple[NdOption, ...] = field(default_factory=tuple)
    to_all: bool = False

    def send(self, six: Wire6) -> None:
        source = ANY6 if self.from_nobody else six.link_local
        destination = ALL_NODES if self.to_all else solicited_node(six.guest_address)
        asked = NeighbourSolicitation(six.guest_address, self.options).icmpv6()
        payload = asked.payload[: len(asked.payload) - self.cut]
        message = bytearray(Icmpv6(asked.type, self.code, 0, payload).pack(source, destination))
        message[2] ^= self.flip
        six.send(IPv6(source, destination, 58, bytes(message), hop_limit=self.hop_limit))


@judges("rfc4861/7.1.1/01")
@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(_Solicitation(hop_limit=254), id="forwarded"),
        pytest.param(_Solicitation(code=1), id="code"),
        pytest.param(_Solicitation(cut=1), id="short"),
        pytest.param(_Solicitation(flip=0x55), id="checksum"),
        pytest.param(_Solicitation(from_nobody=True, to_all=True), id="from nobody to all"),
        pytest.param(_Solicitation(from_nobody=True, options=(SourceLinkLayerAddress(_OTHER_MAC),)), id="from nobody with a mac"),
    ],
)
def test_an_invalid_solicitation_is_discarded(netemu_wire: Wire, wrong: _Solicitation) -> None:
    six = Wire6(netemu_wire).up()
    wrong.send(six)
    six.silence(NeighbourAdvertisement)


@judges("rfc4861/4.6/01")
def test_an_option_of_no_length_is_discarded(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire).up()
    message = Icmpv6(Icmpv6Type.NEIGHBOUR_SOLICITATION, 0, 0, six.guest_address.packed + bytes((1, 0)) + six.mac)
    six.send_icmp(message, solicited_node(six.guest_address), source=six.link_local, hop_limit=255)
    six.silence(NeighbourAdvertisement)


@judges("rfc4861/7.2.3/02")
def test_silent_for_an_address_of_another(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire).up()
    asked = NeighbourSolicitation(_NEIGHBOUR, (SourceLinkLayerAddress(six.mac),))
    six.send_icmp(asked.icmpv6(), six.opposite, source=six.link_local, hop_limit=255)
    six.silence(NeighbourAdvertisement)


@judges("rfc4861/7.2.3/01")
def test_who_asks_is_known(netemu_wire: Wire) -> None:
    """The reply to an echo request goes to the hardware address that an earlier solicitation told, without a question."""
    six = Wire6(netemu_wire).up()
    asked = NeighbourSolicitation(six.guest_address, (SourceLinkLayerAddress(_OTHER_MAC),))
    six.send_icmp(asked.icmpv6(), solicited_node(six.guest_address), source=_NEIGHBOUR, hop_limit=255)
    netemu_wire.expect(NeighbourAdvertisement, target=six.guest_address)
    six.echo(source=_NEIGHBOUR)
    assert six.answered()[Ethernet].destination == _OTHER_MAC


# Questions


def _asked_for_a_neighbour(six: Wire6) -> None:
    """The guest has something to say to one whose hardware address it does not know."""
    six.echo(source=_NEIGHBOUR)


def _questions(six: Wire6) -> list[Packet]:
    """The solicitations for the neighbour that are in the inbox."""
    found = [packet for packet in six.wire.inbox if NeighbourSolicitation in packet]
    return [packet for packet in found if packet[NeighbourSolicitation].target == _NEIGHBOUR]


@judges("rfc4861/7.2.2/01")
def test_a_question_tells_who_asks(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire).up()
    _asked_for_a_neighbour(six)
    question = netemu_wire.expect(NeighbourSolicitation, target=_NEIGHBOUR)
    group = solicited_node(_NEIGHBOUR)
    assert (question[IPv6].destination, question[Ethernet].destination) == (group, multicast_mac(group))
    assert question[IPv6].hop_limit == 255
    assert _macs(question[NeighbourSolicitation].options, SourceLinkLayerAddress) == [netemu_wire.guest.mac]


@judges("rfc4861/7.2.2/02")
def test_a_packet_waits_for_the_answer(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire).up()
    _asked_for_a_neighbour(six)
    netemu_wire.expect(NeighbourSolicitation, target=_NEIGHBOUR)
    six.advertise_neighbour(_NEIGHBOUR)
    six.answered()


@judges("rfc4861/7.1.2/01")
@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"hop_limit": 254}, id="forwarded"),
        pytest.param({"destination": ALL_NODES, "solicited": True}, id="solicited by all"),
    ],
)
def test_an_invalid_answer_is_discarded(netemu_wire: Wire, wrong: dict[str, object]) -> None:
    six = Wire6(netemu_wire).up()
    _asked_for_a_neighbour(six)
    netemu_wire.expect(NeighbourSolicitation, target=_NEIGHBOUR)
    six.advertise_neighbour(_NEIGHBOUR, **wrong)  # type: ignore[arg-type] # its own parameters
    six.unanswered()


@judges("rfc4861/7.2.5/01")
def test_an_answer_that_does_not_override_changes_nothing(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire).up()
    _asked_for_a_neighbour(six)
    netemu_wire.expect(NeighbourSolicitation, target=_NEIGHBOUR)
    six.advertise_neighbour(_NEIGHBOUR)
    six.answered()
    known, six.mac = six.mac, _OTHER_MAC
    six.advertise_neighbour(_NEIGHBOUR, override=False, solicited=False)
    six.echo(source=_NEIGHBOUR, sequence=2)
    assert six.answered(2)[Ethernet].destination == known


@judges("rfc4861/7.2.5/02")
def test_an_answer_that_overrides_supersedes(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire).up()
    _asked_for_a_neighbour(six)
    netemu_wire.expect(NeighbourSolicitation, target=_NEIGHBOUR)
    six.advertise_neighbour(_NEIGHBOUR)
    six.answered()
    six.mac = _OTHER_MAC
    six.advertise_neighbour(_NEIGHBOUR, solicited=False, destination=ALL_NODES)
    six.echo(source=_NEIGHBOUR, sequence=2)
    assert six.answered(2)[Ethernet].destination == _OTHER_MAC


@judges("rfc4861/7.2.2/03")
@judges("rfc4861/7.2.2/04")
@pytest.mark.netemu_requires("virtual-clock")
def test_a_silent_neighbour_is_asked_for_three_times(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire).up()
    _asked_for_a_neighbour(six)
    netemu_wire.run_for(30.0)
    asked = [packet.time for packet in _questions(six)]
    assert len(asked) == 3, f"asked {len(asked)} times; MAX_MULTICAST_SOLICIT is 3"
    gaps = [(later - sooner) / 1e9 for sooner, later in pairwise(asked)]
    assert all(0.9 <= gap <= 1.5 for gap in gaps), f"{gaps} s between questions; RetransTimer is 1 s"


@judges("rfc4861/7.3.3/01")
@pytest.mark.netemu_requires("virtual-clock")
def test_a_neighbour_that_fell_silent_is_asked_by_itself(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire).up()
    _asked_for_a_neighbour(six)
    netemu_wire.expect(NeighbourSolicitation, target=_NEIGHBOUR)
    six.advertise_neighbour(_NEIGHBOUR)
    six.answered()
    netemu_wire.run_for(60.0)  # the longest reachable time is 45 s
    six.echo(source=_NEIGHBOUR, sequence=2)
    six.answered(2)
    probe = netemu_wire.expect(NeighbourSolicitation, within=6.0, target=_NEIGHBOUR)
    assert (probe[IPv6].destination, probe[Ethernet].destination) == (_NEIGHBOUR, six.mac)
    netemu_wire.run_for(20.0)
    more = len(_questions(six))
    assert more == 2, f"{1 + more} probes; MAX_UNICAST_SOLICIT is 3"
