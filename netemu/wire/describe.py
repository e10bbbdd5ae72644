"""Frames for people: one line for a ladder (`summarize`), and named fields for a difference (`dissect`).

Both read a frame layer by layer until nothing inside is known or something is malformed; then the `WireError` is the last
layer. Neither ever raises for any octets. UDP payloads are read by port: 67 and 68 as DHCP, 53 as DNS.

A transport checksum is verified, unless it is the pseudo-header's sum alone: then the rest was left to an offload.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import IntEnum
from ipaddress import IPv4Address
from typing import Final, TypeAlias

from netemu.wire.address import Endpoint, MacAddress
from netemu.wire.arp import Arp, ArpOperation
from netemu.wire.checksum import pseudo_header_sum
from netemu.wire.dhcpv4 import CLIENT_PORT, SERVER_PORT, DhcpOption, Dhcpv4
from netemu.wire.dns import DnsMessage, RecordType, ResourceRecord, ResponseCode
from netemu.wire.errors import WireError
from netemu.wire.ether import Ethernet, EtherType
from netemu.wire.fields import Buffer
from netemu.wire.icmpv4 import IcmpType, Icmpv4, RedirectCode, TimeExceededCode, UnreachableCode
from netemu.wire.ipv4 import IPv4, Protocol
from netemu.wire.tcp import ACK, Tcp, TcpOptions, flags_text
from netemu.wire.udp import Udp
from netemu.wire.vlan import Vlan

__all__ = ["dissect", "summarize"]

_Layer: TypeAlias = Ethernet | Vlan | Arp | IPv4 | Icmpv4 | Udp | Tcp | Dhcpv4 | DnsMessage | WireError

_DNS_PORT: Final = 53  # RFC 1035 4.2.1
_UDP_CHECKSUM: Final = slice(6, 8)
_TCP_CHECKSUM: Final = slice(16, 18)

_LAYER_NAMES: Final[Mapping[type, str]] = {
    Ethernet: "ethernet",
    Vlan: "vlan",
    Arp: "arp",
    IPv4: "ipv4",
    Icmpv4: "icmpv4",
    Udp: "udp",
    Tcp: "tcp",
    Dhcpv4: "dhcpv4",
    DnsMessage: "dns",
}
# The fields of the values that do not name theirs in wire order.
_WIRE_ORDER: Final[Mapping[type, str]] = {
    IPv4: "dscp ecn identification dont_fragment more_fragments fragment_offset ttl protocol source destination options payload",
    Tcp: "source_port destination_port sequence acknowledgment flags window urgent_pointer options payload",
    Dhcpv4: "op hops xid secs broadcast ciaddr yiaddr siaddr giaddr chaddr sname file options",
    DnsMessage: "identification response opcode authoritative truncated recursion_desired recursion_available"
    " response_code questions answers authorities additionals",
    ResourceRecord: "name type class_ ttl data",
}
_ICMP_CODES: Final[Mapping[int, type[IntEnum]]] = {
    IcmpType.DESTINATION_UNREACHABLE: UnreachableCode,
    IcmpType.REDIRECT: RedirectCode,
    IcmpType.TIME_EXCEEDED: TimeExceededCode,
}


def summarize(frame: Buffer) -> str:
    """The frame on one line, such as `10.0.2.15:49152 > 10.0.2.2:80 TCP SYN seq=1 win=65535 <mss 1460>`."""
    layers = list(_layers(frame))
    words = [_route(layers), *(_text(layer, layer is layers[-1]) for layer in layers)]
    return " ".join(filter(None, words))


def dissect(frame: Buffer) -> dict[str, str | int]:
    """The frame's fields in wire order, named `layer.field` (`ipv4.source`); addresses as text, octets as hexadecimal.

    A payload is given only where nothing in it could be read. A second VLAN tag is `vlan2`. What is malformed gives one
    entry, `malformed`, with the words of the `WireError`.
    """
    found: dict[str, str | int] = {}
    seen: Counter[str] = Counter()
    layers = list(_layers(frame))
    for layer, inner in zip(layers, [*layers[1:], None], strict=True):
        if isinstance(layer, WireError):
            found["malformed"] = str(layer)
            continue
        name = _LAYER_NAMES[type(layer)]
        seen[name] += 1
        name += str(seen[name]) if seen[name] > 1 else ""
        found.update(_flatten(name, layer))
        if inner is not None and not isinstance(inner, WireError):
            found.pop(f"{name}.payload", None)
    return found


def _layers(frame: Buffer) -> Iterator[_Layer]:
    """The frame's layers from the outside in, a `WireError` last when one is malformed."""
    try:
        ethernet = Ethernet.parse(frame)
        yield ethernet
        ethertype, payload = ethernet.ethertype, ethernet.payload
        while ethertype == EtherType.VLAN:
            tag = Vlan.parse(payload)
            yield tag
            ethertype, payload = tag.ethertype, tag.payload
        if ethertype == EtherType.ARP:
            yield Arp.parse(payload)
        elif ethertype == EtherType.IPV4:
            yield from _ipv4_layers(payload)
    except WireError as error:
        yield error


def _ipv4_layers(data: bytes) -> Iterator[_Layer]:
    ip = IPv4.parse(data)
    yield ip
    if ip.is_fragment:
        return
    if ip.protocol == Protocol.ICMP:
        yield Icmpv4.parse(ip.payload)
    elif ip.protocol == Protocol.TCP:
        yield Tcp.parse(ip.payload, *_checksum_addresses(ip, _TCP_CHECKSUM))
    elif ip.protocol == Protocol.UDP:
        udp = Udp.parse(ip.payload, *_checksum_addresses(ip, _UDP_CHECKSUM))
        yield udp
        ports = {udp.source_port, udp.destination_port}
        if ports <= {SERVER_PORT, CLIENT_PORT}:
            yield Dhcpv4.parse(udp.payload)
        elif _DNS_PORT in ports:
            yield DnsMessage.parse(udp.payload)


def _checksum_addresses(ip: IPv4, checksum: slice) -> tuple[IPv4Address, IPv4Address] | tuple[()]:
    """The addresses to verify the checksum with; none when it was left to an offload."""
    partial = pseudo_header_sum(ip.source, ip.destination, ip.protocol, len(ip.payload))
    left_out = ip.payload[checksum] == partial.to_bytes(2, "big")
    return () if left_out else (ip.source, ip.destination)


def _route(layers: list[_Layer]) -> str:
    """Who speaks to whom, in the innermost addresses that were read."""
    source: object = None
    destination: object = None
    for layer in layers:
        match layer:
            case Ethernet() | IPv4():
                source, destination = layer.source, layer.destination
            case Tcp() | Udp() if isinstance(source, IPv4Address) and isinstance(destination, IPv4Address):
                source, destination = Endpoint(source, layer.source_port), Endpoint(destination, layer.destination_port)
    return f"{source} > {destination}" if source is not None else ""


def _text(layer: _Layer, last: bool) -> str:
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
        case Tcp():
            return _tcp_text(layer)
        case Dhcpv4():
            return _dhcp_text(layer)
        case DnsMessage():
            return _dns_text(layer)
        case Udp() if last:
            return f"UDP len={len(layer.payload)}"
        case IPv4() if last:
            return _ipv4_text(layer)
        case Ethernet() if last:
            return f"type {layer.ethertype:#06x} len={len(layer.payload)}"
    return ""


def _arp_text(arp: Arp) -> str:
    if arp.operation == ArpOperation.REQUEST:
        return f"ARP who-has {arp.target_ip} tell {arp.sender_ip}"
    if arp.operation == ArpOperation.REPLY:
        return f"ARP {arp.sender_ip} is-at {arp.sender_mac}"
    return f"ARP operation {arp.operation}"


def _ipv4_text(ip: IPv4) -> str:
    protocol = _name(Protocol, ip.protocol)
    if not ip.is_fragment:
        return f"{protocol} len={len(ip.payload)}"
    more = " more" if ip.more_fragments else ""
    return f"{protocol} fragment id={ip.identification} offset={ip.fragment_offset} len={len(ip.payload)}{more}"


def _icmp_text(icmp: Icmpv4) -> str:
    kind = _name(IcmpType, icmp.type).lower().replace("_", " ")
    if icmp.type in (IcmpType.ECHO_REQUEST, IcmpType.ECHO_REPLY):
        return f"ICMP {kind} id={icmp.identifier} seq={icmp.sequence} len={len(icmp.payload)}"
    if icmp.type in _ICMP_CODES:
        kind += f" ({_name(_ICMP_CODES[icmp.type], icmp.code).lower().replace('_', ' ')})"
    elif icmp.code:
        kind += f" code={icmp.code}"
    next_hop = icmp.type == IcmpType.DESTINATION_UNREACHABLE and icmp.code == UnreachableCode.FRAGMENTATION_NEEDED
    return f"ICMP {kind} mtu={icmp.mtu}" if next_hop else f"ICMP {kind}"


def _tcp_text(tcp: Tcp) -> str:
    words = ["TCP", flags_text(tcp.flags), f"seq={tcp.sequence}"]
    if tcp.flags & ACK:
        words.append(f"ack={tcp.acknowledgment}")
    words.append(f"win={tcp.window}")
    if tcp.payload:
        words.append(f"len={len(tcp.payload)}")
    options = ",".join(_tcp_option_texts(tcp.options))
    return " ".join([*words, f"<{options}>"] if options else words)


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
    questions = ",".join(f"{_name(RecordType, question.type)}? {question.name}" for question in dns.questions)
    if not dns.response:
        return f"DNS {questions} id={dns.identification}"
    if dns.response_code != ResponseCode.NO_ERROR:
        return f"DNS {questions} {_name(ResponseCode, dns.response_code)} id={dns.identification}"
    answers = ",".join(map(_record_text, dns.answers)) or "no answer"
    return f"DNS {questions} = {answers} id={dns.identification}"


def _record_text(record: ResourceRecord) -> str:
    return str(record.address or _name(RecordType, record.type))


def _name(numbers: type[IntEnum], number: int) -> str:
    try:
        return numbers(number).name
    except ValueError:
        return str(number)


def _flatten(name: str, value: object) -> Iterator[tuple[str, str | int]]:
    """The fields inside `value`, each with its dotted name; what is None has none."""
    match value:
        case None:
            return
        case int():
            yield name, int(value)
        case MacAddress() | IPv4Address() | str():
            yield name, str(value)
        case bytes():
            yield name, value.hex()
        case tuple():
            for index, item in enumerate(value):
                yield from _flatten(f"{name}.{index}", item)
        case Mapping():
            for number, item in value.items():
                yield from _flatten(f"{name}.{_name(DhcpOption, number).lower()}", item)
        case _ if is_dataclass(value):
            order = _WIRE_ORDER.get(type(value))
            for member in order.split() if order is not None else [field.name for field in fields(value)]:
                yield from _flatten(f"{name}.{member}", getattr(value, member))
