"""What the line of a frame says of each layer, in the words of those who read packet traces.

One function a format, chosen by `layer_text`. Numbers that have a name in their document are given by it. Text that came
from the wire is shown with everything but visible ASCII escaped, so a line stays one line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import IntEnum
from typing import Final, TypeAlias

from netemu.wire.arp import Arp, ArpOperation
from netemu.wire.dhcpv4 import Dhcpv4
from netemu.wire.dhcpv6 import Dhcpv6, Dhcpv6MessageType, Dhcpv6StatusCode
from netemu.wire.dns import DnsMessage, RecordType, ResourceRecord, ResponseCode
from netemu.wire.errors import WireError
from netemu.wire.ether import Ethernet
from netemu.wire.icmpv4 import IcmpType, Icmpv4, RedirectCode, TimeExceededCode, UnreachableCode
from netemu.wire.icmpv6 import (
    Icmpv6,
    Icmpv6ParameterProblemCode,
    Icmpv6TimeExceededCode,
    Icmpv6Type,
    Icmpv6UnreachableCode,
)
from netemu.wire.ipv4 import IPv4, Protocol
from netemu.wire.ipv6 import IPv6, NextHeader
from netemu.wire.ndisc import (
    NdMessage,
    NeighbourAdvertisement,
    NeighbourSolicitation,
    Redirect,
    RouterAdvertisement,
    RouterSolicitation,
)
from netemu.wire.ndisc_options import (
    Dnssl,
    Mtu,
    NdOption,
    PrefixInformation,
    Rdnss,
    RedirectedHeader,
    RouteInformation,
    RouterPreference,
    SourceLinkLayerAddress,
    TargetLinkLayerAddress,
    UnknownOption,
)
from netemu.wire.tcp import ACK, Tcp, TcpOptions, flags_text
from netemu.wire.tftp import Acknowledgment, Data, Error, ErrorCode, OptionAcknowledgment, Request
from netemu.wire.tftp import Packet as TftpPacket
from netemu.wire.udp import Udp
from netemu.wire.vlan import Vlan

__all__ = ["Layer", "layer_text", "number_name", "visible"]

Layer: TypeAlias = (
    Ethernet
    | Vlan
    | Arp
    | IPv4
    | IPv6
    | Icmpv4
    | Icmpv6
    | NdMessage
    | Udp
    | Tcp
    | Dhcpv4
    | Dhcpv6
    | DnsMessage
    | TftpPacket
    | WireError
)

_ICMP_CODES: Final[Mapping[int, type[IntEnum]]] = {
    IcmpType.DESTINATION_UNREACHABLE: UnreachableCode,
    IcmpType.REDIRECT: RedirectCode,
    IcmpType.TIME_EXCEEDED: TimeExceededCode,
}
_ICMPV6_CODES: Final[Mapping[int, type[IntEnum]]] = {
    Icmpv6Type.DESTINATION_UNREACHABLE: Icmpv6UnreachableCode,
    Icmpv6Type.TIME_EXCEEDED: Icmpv6TimeExceededCode,
    Icmpv6Type.PARAMETER_PROBLEM: Icmpv6ParameterProblemCode,
}


def layer_text(layer: Layer, last: bool) -> str:
    """What the line says of this layer; a layer that only carries another says nothing."""
    match layer:
        case WireError():
            return f"malformed: {layer}"
        case Vlan():
            inner = f" type {layer.ethertype:#06x} len={len(layer.payload)}" if last else ""
            return f"VLAN {layer.vlan_id}{inner}"
        case Arp():
            return _arp_text(layer)
        case Icmpv4():
            return _icmp_text(layer)
        case Icmpv6() if last:
            return _icmpv6_text(layer)
        case Tcp():
            return _tcp_text(layer)
        case Dhcpv4():
            return _dhcp_text(layer)
        case Dhcpv6():
            return _dhcpv6_text(layer)
        case DnsMessage():
            return _dns_text(layer)
        case RouterSolicitation() | RouterAdvertisement() | NeighbourSolicitation() | NeighbourAdvertisement() | Redirect():
            return _nd_text(layer)
        case Request() | Data() | Acknowledgment() | Error() | OptionAcknowledgment():
            return _tftp_text(layer)
        case Udp() if last:
            return f"UDP len={len(layer.payload)}"
        case IPv4() if last:
            return _ipv4_text(layer)
        case IPv6() if last:
            return _ipv6_text(layer)
        case Ethernet() if last:
            return f"type {layer.ethertype:#06x} len={len(layer.payload)}"
    return ""


def number_name(numbers: type[IntEnum], number: int) -> str:
    """The name that the document gives this number, or the number."""
    try:
        return numbers(number).name
    except ValueError:
        return str(number)


def visible(text: str) -> str:
    """`text` as it is when all of it is visible ASCII, otherwise with the rest escaped as in Python."""
    return text if text.isascii() and text.isprintable() else text.encode("unicode_escape").decode("ascii")


def _arp_text(arp: Arp) -> str:
    if arp.operation == ArpOperation.REQUEST:
        return f"ARP who-has {arp.target_ip} tell {arp.sender_ip}"
    if arp.operation == ArpOperation.REPLY:
        return f"ARP {arp.sender_ip} is-at {arp.sender_mac}"
    return f"ARP operation {arp.operation}"


def _ipv4_text(ip: IPv4) -> str:
    protocol = number_name(Protocol, ip.protocol)
    if not ip.is_fragment:
        return f"{protocol} len={len(ip.payload)}"
    more = " more" if ip.more_fragments else ""
    return f"{protocol} fragment id={ip.identification} offset={ip.fragment_offset} len={len(ip.payload)}{more}"


def _ipv6_text(ip: IPv6) -> str:
    protocol = number_name(NextHeader, ip.next_header)
    fragment = ip.fragment
    if fragment is None or not ip.is_fragment:
        return f"{protocol} len={len(ip.payload)}"
    more = " more" if fragment.more else ""
    return f"{protocol} fragment id={fragment.identification} offset={fragment.offset} len={len(ip.payload)}{more}"


def _icmp_text(icmp: Icmpv4) -> str:
    kind = _words(IcmpType, icmp.type)
    if icmp.type in (IcmpType.ECHO_REQUEST, IcmpType.ECHO_REPLY):
        return f"ICMP {kind} id={icmp.identifier} seq={icmp.sequence} len={len(icmp.payload)}"
    if icmp.type in _ICMP_CODES:
        kind += f" ({_words(_ICMP_CODES[icmp.type], icmp.code)})"
    elif icmp.code:
        kind += f" code={icmp.code}"
    next_hop = icmp.type == IcmpType.DESTINATION_UNREACHABLE and icmp.code == UnreachableCode.FRAGMENTATION_NEEDED
    return f"ICMP {kind} mtu={icmp.mtu}" if next_hop else f"ICMP {kind}"


def _icmpv6_text(icmp: Icmpv6) -> str:
    kind = _words(Icmpv6Type, icmp.type)
    match icmp.type:
        case Icmpv6Type.ECHO_REQUEST | Icmpv6Type.ECHO_REPLY:
            return f"ICMPv6 {kind} id={icmp.identifier} seq={icmp.sequence} len={len(icmp.payload)}"
        case Icmpv6Type.PACKET_TOO_BIG:
            return f"ICMPv6 {kind} mtu={icmp.mtu}"
    if icmp.type in _ICMPV6_CODES:
        kind += f" ({_words(_ICMPV6_CODES[icmp.type], icmp.code)})"
    elif icmp.code:
        kind += f" code={icmp.code}"
    return f"ICMPv6 {kind} pointer={icmp.pointer}" if icmp.type == Icmpv6Type.PARAMETER_PROBLEM else f"ICMPv6 {kind}"


def _nd_text(message: NdMessage) -> str:
    match message:
        case RouterSolicitation():
            words = ["router solicitation"]
        case RouterAdvertisement():
            words = ["router advertisement", f"hop_limit={message.hop_limit}", f"lifetime={message.router_lifetime}"]
            words += _flags(managed=message.managed, other=message.other)
            words += _preference(message.preference)
        case NeighbourSolicitation():
            words = [f"who-has {message.target}"]
        case NeighbourAdvertisement():
            words = [f"{message.target} is-here"]
            words += _flags(router=message.router, solicited=message.solicited, override=message.override)
        case Redirect():
            words = [f"redirect {message.destination} to {message.target}"]
    return " ".join(["ND", *words, *_in_brackets(map(_nd_option_text, message.options))])


def _nd_option_text(option: NdOption) -> str:
    match option:
        case SourceLinkLayerAddress():
            return f"source {option.address}"
        case TargetLinkLayerAddress():
            return f"target {option.address}"
        case PrefixInformation():
            flags = _flags(on_link=option.on_link, autonomous=option.autonomous)
            return " ".join(["prefix", str(option.prefix), *flags, f"{option.valid_lifetime}/{option.preferred_lifetime}"])
        case RedirectedHeader():
            return f"redirected len={len(option.packet)}"
        case Mtu():
            return f"mtu {option.mtu}"
        case RouteInformation():
            return " ".join(["route", str(option.prefix), *_preference(option.preference), str(option.lifetime)])
        case Rdnss():
            return " ".join(["dns", *map(str, option.servers), str(option.lifetime)])
        case Dnssl():
            return " ".join(["search", *option.names, str(option.lifetime)])
        case UnknownOption():
            return f"option {option.type} {option.data.hex()}"


def _tcp_text(tcp: Tcp) -> str:
    words = ["TCP", flags_text(tcp.flags), f"seq={tcp.sequence}"]
    if tcp.flags & ACK:
        words.append(f"ack={tcp.acknowledgment}")
    words.append(f"win={tcp.window}")
    if tcp.payload:
        words.append(f"len={len(tcp.payload)}")
    return " ".join([*words, *_in_brackets(_tcp_option_texts(tcp.options))])


def _tcp_option_texts(options: TcpOptions) -> Iterator[str]:
    if options.mss is not None:
        yield f"mss {options.mss}"
    if options.window_scale is not None:
        yield f"wscale {options.window_scale}"
    if options.sack_permitted:
        yield "sackOK"
    for left, right in options.sack:
        yield f"sack {left}-{right}"
    if options.timestamps is not None:
        yield "ts {} {}".format(*options.timestamps)
    for kind, value in options.unknown:
        yield f"option {kind} {value.hex()}".rstrip()


def _dhcp_text(dhcp: Dhcpv4) -> str:
    kind = dhcp.message_type
    words = [f"DHCP {kind.name}" if kind is not None else "BOOTP", f"xid={dhcp.xid:#010x}"]
    given = (
        ("ciaddr", dhcp.ciaddr if int(dhcp.ciaddr) else None),
        ("yiaddr", dhcp.yiaddr if int(dhcp.yiaddr) else None),
        ("requested", dhcp.requested_address),
        ("server", dhcp.server_identifier),
    )
    return " ".join([*words, *(f"{name}={address}" for name, address in given if address is not None)])


def _dns_text(dns: DnsMessage) -> str:
    questions = ",".join(f"{number_name(RecordType, question.type)}? {question.name}" for question in dns.questions)
    if not dns.response:
        return f"DNS {questions} id={dns.identification}"
    if dns.response_code != ResponseCode.NO_ERROR:
        return f"DNS {questions} {number_name(ResponseCode, dns.response_code)} id={dns.identification}"
    answers = ",".join(map(_record_text, dns.answers)) or "no answer"
    return f"DNS {questions} = {answers} id={dns.identification}"


def _record_text(record: ResourceRecord) -> str:
    return str(record.address or number_name(RecordType, record.type))


def _dhcpv6_text(dhcp: Dhcpv6) -> str:
    words = [f"DHCPv6 {number_name(Dhcpv6MessageType, dhcp.message_type)}", f"xid={dhcp.transaction_id:#08x}"]
    words += [f"address={address.address}" for identity in dhcp.ia_nas for address in identity.addresses]
    words += _flags(rapid_commit=dhcp.rapid_commit)
    statuses = (dhcp.status, *(identity.status for identity in dhcp.ia_nas))
    words += [f"status={number_name(Dhcpv6StatusCode, status.code)}" for status in statuses if status is not None]
    return " ".join(words)


def _tftp_text(packet: TftpPacket) -> str:
    match packet:
        case Request():
            words = [packet.opcode.name, visible(packet.filename), visible(packet.mode), *_tftp_options(packet.options)]
        case Data():
            words = [f"DATA block={packet.block} len={len(packet.data)}"]
        case Acknowledgment():
            words = [f"ACK block={packet.block}"]
        case Error():
            words = [f"ERROR {number_name(ErrorCode, packet.code)} {visible(packet.message)}".rstrip()]
        case OptionAcknowledgment():
            words = ["OACK", *_tftp_options(packet.options)]
    return " ".join(["TFTP", *words])


def _tftp_options(options: Mapping[str, str]) -> list[str]:
    return _in_brackets(f"{visible(name)} {visible(value)}" for name, value in options.items())


def _in_brackets(texts: Iterable[str]) -> list[str]:
    """One word that lists the texts; none when there are none."""
    listed = ",".join(texts)
    return [f"<{listed}>"] if listed else []


def _flags(**flags: bool) -> list[str]:
    """The names of the flags that are set."""
    return [name.replace("_", "-") for name, is_set in flags.items() if is_set]


def _preference(preference: RouterPreference) -> list[str]:
    """The preference, unless it is the ordinary one."""
    return [] if preference == RouterPreference.MEDIUM else [preference.name.lower()]


def _words(numbers: type[IntEnum], number: int) -> str:
    return number_name(numbers, number).lower().replace("_", " ")
