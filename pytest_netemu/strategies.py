"""Hypothesis strategies: frames, whole and broken, and fault schedules that shrink to the fault that matters.

    @settings(deadline=None)  # hypothesis means wall time by it
    @given(faults=fault_schedules(max_frames=40))
    def test_forward_survives(netemu_factory, faults):
        note_regression(test_forward_survives, faults=faults)
        with netemu_factory() as network: ...

When such a test fails, hypothesis shrinks the schedule, and `note_regression` prints the outcome as a test to paste into the same
file. Hypothesis is imported here and nowhere else in the plugin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from inspect import signature
from ipaddress import IPv4Address
from typing import Final

from hypothesis import note
from hypothesis import strategies as st

from netemu.errors import LocalError
from netemu.net.clock import MILLISECOND
from netemu.net.faults import Fault, flip_bit
from netemu.wire.address import BROADCAST_MAC, MacAddress
from netemu.wire.arp import Arp, ArpOperation
from netemu.wire.dhcpv4 import CLIENT_PORT, SERVER_PORT, DhcpMessageType, DhcpOption, Dhcpv4
from netemu.wire.dns import DnsMessage, Question, RecordType
from netemu.wire.ether import Ethernet, EtherType
from netemu.wire.icmpv4 import IcmpType, Icmpv4
from netemu.wire.ipv4 import IPv4, Protocol
from netemu.wire.tcp import Tcp, TcpOptions
from netemu.wire.udp import Udp
from netemu.wire.vlan import Vlan
from pytest_netemu.evidence import current

__all__ = ["fault_schedules", "frames", "note_regression", "regression_test"]

_DNS_PORT: Final = 53
_FRAGMENT: Final = 64  # octets, so that short packets have fragments too
_ANY: Final = IPv4Address("0.0.0.0")
_MACS: Final = (MacAddress("52:54:00:12:34:56"), MacAddress("52:55:0a:00:02:02"), BROADCAST_MAC)  # a guest's, the gateway's
_ADDRESSES: Final = (*(IPv4Address(f"10.0.2.{host}") for host in (2, 3, 15, 255)), _ANY, IPv4Address("255.255.255.255"))

_u8 = st.integers(0, 0xFF)
_u16 = st.integers(0, 0xFFFF)
_u32 = st.integers(0, 0xFFFFFFFF)
_payloads = st.binary(max_size=256)
_macs = st.sampled_from(_MACS) | st.binary(min_size=6, max_size=6).map(MacAddress)
_addresses = st.sampled_from(_ADDRESSES) | _u32.map(IPv4Address)
_names = st.sampled_from(["example.com", "a.test", "xn--nxasmq6b.test"])


def frames(*, mutated: bool = True) -> st.SearchStrategy[bytes]:
    """Ethernet frames: ARP, ICMP, UDP, DHCP, DNS and TCP, some of them in fragments or with a VLAN tag, each whole and right.

    With `mutated` also such frames with bits flipped, octets cut off or octets added: they shrink to whole ones.
    """
    return _whole_frames() | _broken_frames() if mutated else _whole_frames()


def fault_schedules(max_frames: int = 40, max_faults: int = 8) -> st.SearchStrategy[list[Fault]]:
    """Schedules for one direction of a link: at most `max_faults` faults among the first `max_frames` frames, at most one a frame.

    They shrink towards fewer faults, earlier frames, smaller values and the plainest action, a drop. Delays are whole milliseconds.
    """
    if max_frames < 1 or max_faults < 0:
        raise LocalError(f"max_frames={max_frames}, max_faults={max_faults}: 1 or more frames and 0 or more faults are allowed")
    numbers = st.integers(0, max_frames - 1)
    faults = st.one_of(
        st.builds(Fault, numbers, st.just("drop")),
        st.builds(Fault, numbers, st.just("duplicate"), st.integers(1, 3)),
        st.builds(Fault, numbers, st.just("reorder"), st.integers(1, 5)),
        st.builds(Fault, numbers, st.just("delay"), st.integers(1, 1000).map(lambda count: count * MILLISECOND)),
        st.builds(Fault, numbers, st.just("truncate"), st.integers(0, 80)),
        st.builds(Fault, numbers, st.just("flip"), st.integers(0, 1514 * 8 - 1)),
    )
    schedules = st.lists(faults, max_size=max_faults, unique_by=lambda fault: fault.frame)
    return schedules.map(lambda schedule: sorted(schedule, key=lambda fault: fault.frame))


def regression_test(test: Callable[..., object], **drawn: object) -> str:
    """The source of a test that runs the hypothesis test `test` once, with these values in the place of drawn ones.

    It has the fixtures of `test` and belongs into the same file. Each value's `repr` must be Python; a fault schedule's is.
    """
    inner = getattr(getattr(test, "hypothesis", None), "inner_test", None)
    if inner is None:
        raise LocalError(f"{test!r} is no hypothesis test: decorate it with @given, and pass the test itself")
    name = inner.__name__
    fixtures = [each for each in signature(inner).parameters if each not in drawn]
    arguments = [*(f"{each}={each}" for each in fixtures), *(f"{each}={value!r}" for each, value in drawn.items())]
    return (
        "from netemu.net.faults import Fault\n"
        "\n"
        "\n"
        f"def {name}_regression({', '.join(fixtures)}):\n"
        f"    {name}.hypothesis.inner_test({', '.join(arguments)})\n"
    )


def note_regression(test: Callable[..., object], **drawn: object) -> None:
    """Say this first in a hypothesis test: if it fails, the report has the shrunk example as a test of its own."""
    text = regression_test(test, **drawn)
    evidence = current()
    if evidence is None:
        note(text)
    else:
        evidence.regression = text


_arps = st.builds(Arp, st.sampled_from(ArpOperation).map(int), _macs, _addresses, _macs, _addresses)
_icmps = st.one_of(
    st.builds(Icmpv4.echo_request, _u16, _u16, _payloads),
    st.builds(Icmpv4.echo_reply, _u16, _u16, _payloads),
    st.builds(Icmpv4, st.sampled_from(IcmpType).map(int), _u8, _u32, _payloads),
)
_dhcp_options = st.fixed_dictionaries(
    {int(DhcpOption.DHCP_MESSAGE_TYPE): st.sampled_from(DhcpMessageType).map(lambda kind: bytes([kind]))},
    optional={
        int(DhcpOption.REQUESTED_IP_ADDRESS): _addresses.map(lambda address: address.packed),
        int(DhcpOption.HOST_NAME): st.just(b"guest"),
    },
)
_dhcps = st.builds(Dhcpv4, st.just(1), _u32, _macs, ciaddr=st.just(_ANY) | _addresses, options=_dhcp_options)
_questions = st.builds(Question, _names, st.sampled_from(RecordType).map(int))
_dnses = st.builds(DnsMessage, _u16, st.lists(_questions, min_size=1, max_size=2).map(tuple), recursion_desired=st.just(True))
_udps = st.one_of(
    st.builds(Udp, _u16, _u16, _payloads),
    st.builds(Udp, _u16, st.just(_DNS_PORT), _dnses.map(DnsMessage.pack)),
    st.builds(Udp, st.just(CLIENT_PORT), st.just(SERVER_PORT), _dhcps.map(Dhcpv4.pack)),
)
_tcp_options = st.builds(
    TcpOptions, mss=st.none() | _u16, window_scale=st.none() | st.integers(0, 14), sack_permitted=st.booleans()
)
_tcps = st.builds(Tcp, _u16, _u16, _u32, _u32, st.integers(0, 0x3F), _u16, _payloads, _u16, _tcp_options)
_tags = st.none() | st.builds(partial(Vlan, ethertype=0, payload=b""), st.integers(0, 7), st.booleans(), st.integers(0, 0xFFF))


@st.composite
def _packets(draw: st.DrawFn) -> IPv4:
    ends = draw(_addresses), draw(_addresses)
    match draw(st.one_of(_icmps, _udps, _tcps)):
        case Icmpv4() as message:
            protocol, payload = Protocol.ICMP, message.pack()
        case Udp() as datagram:
            protocol, payload = Protocol.UDP, datagram.pack(*ends)
        case Tcp() as segment:
            protocol, payload = Protocol.TCP, segment.pack(*ends)
    whole = IPv4(*ends, protocol, payload, ttl=draw(_u8), identification=draw(_u16))
    return draw(_fragments(whole)) if draw(st.integers(0, 7)) == 7 else whole


@st.composite
def _fragments(draw: st.DrawFn, packet: IPv4) -> IPv4:
    """One fragment of `packet`, on its own."""
    offset = 8 * draw(st.integers(0, max(0, len(packet.payload) - 1) // 8))
    payload = packet.payload[offset : offset + _FRAGMENT]
    more = offset + _FRAGMENT < len(packet.payload)
    return replace(packet, payload=payload, fragment_offset=offset, more_fragments=more)


@st.composite
def _whole_frames(draw: st.DrawFn) -> bytes:
    inner = draw(st.one_of(_arps, _packets()))
    ethertype, payload = EtherType.ARP if isinstance(inner, Arp) else EtherType.IPV4, inner.pack()
    tag = draw(_tags)
    if tag is not None:
        ethertype, payload = EtherType.VLAN, replace(tag, ethertype=ethertype, payload=payload).pack()
    return Ethernet(draw(_macs), draw(_macs), ethertype, payload).pack()


@st.composite
def _broken_frames(draw: st.DrawFn) -> bytes:
    frame = draw(_whole_frames())
    change = draw(st.sampled_from(["flip", "cut", "add"]))
    if change == "cut":
        return frame[: draw(st.integers(0, len(frame) - 1))]
    if change == "add":
        return frame + draw(st.binary(min_size=1, max_size=64))
    for bit in draw(st.lists(st.integers(0, len(frame) * 8 - 1), min_size=1, max_size=3)):
        frame = flip_bit(frame, bit)
    return frame
