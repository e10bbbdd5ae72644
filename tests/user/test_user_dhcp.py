"""The DHCP server, message by message (RFC 2131 4.3)."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from user_driver import BROADCAST, DNS, GATEWAY, GATEWAY_MAC, GUEST, GUEST_MAC, Lab, dhcp_message, selecting

from netemu.user.options import UserOptions
from netemu.wire.address import BROADCAST_MAC, MacAddress
from netemu.wire.dhcpv4 import BOOTREPLY, DhcpMessageType, DhcpOption, Dhcpv4, parse_domain_search

OTHER_MAC = MacAddress("52:54:00:12:34:57")
DAY = 86_400
NEXT = IPv4Address("10.0.2.16")


def reply(lab: Lab) -> Dhcpv4:
    message = lab.one().dhcp
    assert message is not None
    return message


def test_offer_and_acknowledgement() -> None:
    lab = Lab()
    lab.dhcp(DhcpMessageType.DISCOVER)
    seen = lab.one()
    offer = seen.dhcp
    assert offer is not None
    assert seen.frame.source == GATEWAY_MAC
    assert seen.ip is not None
    assert seen.ip.source == GATEWAY
    assert (offer.op, offer.xid, offer.yiaddr, offer.chaddr) == (BOOTREPLY, 0x1234, GUEST, GUEST_MAC)
    assert offer.message_type == DhcpMessageType.OFFER
    assert [lease.state for lease in lab.user.leases] == ["offered"]
    lab.dhcp(DhcpMessageType.REQUEST, selecting(GUEST))
    ack = reply(lab)
    assert (ack.message_type, ack.yiaddr) == (DhcpMessageType.ACK, GUEST)
    for message in (offer, ack):
        assert message.server_identifier == GATEWAY
        assert message.addresses(DhcpOption.SUBNET_MASK) == (IPv4Address("255.255.255.0"),)
        assert message.addresses(DhcpOption.ROUTER) == (GATEWAY,)
        assert message.addresses(DhcpOption.DOMAIN_NAME_SERVER) == (DNS,)
        assert message.lease_time == DAY
        assert message.u32(DhcpOption.RENEWAL_TIME_VALUE) == DAY // 2
        assert message.u32(DhcpOption.REBINDING_TIME_VALUE) == DAY * 7 // 8
        assert message.options[DhcpOption.INTERFACE_MTU] == (1500).to_bytes(2, "big")
    (lease,) = lab.user.leases
    assert (lease.address, lease.mac, lease.state) == (GUEST, GUEST_MAC, "bound")
    assert lease.expires == DAY * 1_000_000_000


@pytest.mark.parametrize(
    ("fields", "mac", "address"),
    [
        ({}, GUEST_MAC, GUEST),
        ({"broadcast": True}, BROADCAST_MAC, BROADCAST),
    ],
)
def test_where_the_offer_goes(fields: dict[str, bool], mac: MacAddress, address: IPv4Address) -> None:
    lab = Lab()
    lab.dhcp(DhcpMessageType.DISCOVER, **fields)
    seen = lab.one()
    assert seen.ip is not None
    assert seen.udp is not None
    assert (seen.frame.destination, seen.ip.destination, seen.udp.destination_port) == (mac, address, 68)


def test_configured_names_are_told_in_the_order_asked_for() -> None:
    lab = Lab(UserOptions(hostname="guest", domainname="example.org", dnssearch=("a.example", "b.example")))
    lab.dhcp(DhcpMessageType.DISCOVER, {DhcpOption.PARAMETER_REQUEST_LIST: bytes((15, 3, 12, 250))})
    offer = reply(lab)
    codes = list(offer.options)
    assert codes[-len({119, 26, 28, 6}) :] == [26, 28, 6, 119]
    assert [code for code in codes if code in (15, 3, 12, 1)] == [1, 15, 3, 12]
    assert offer.options[12] == b"guest"
    assert offer.options[15] == b"example.org"
    assert parse_domain_search(offer.options[119]) == ("a.example", "b.example")


def test_restricted_names_no_way_out() -> None:
    lab = Lab(UserOptions(restrict=True))
    ack = lab.lease()
    assert ack.yiaddr == GUEST
    assert not {DhcpOption.ROUTER, DhcpOption.DOMAIN_NAME_SERVER} & ack.options.keys()


def test_the_client_identifier_tells_clients_apart_and_comes_back() -> None:
    lab = Lab()
    lab.dhcp(DhcpMessageType.DISCOVER, {DhcpOption.CLIENT_IDENTIFIER: b"\0one"})
    first = reply(lab)
    lab.dhcp(DhcpMessageType.DISCOVER, {DhcpOption.CLIENT_IDENTIFIER: b"\0two"})
    second = reply(lab)
    assert (first.yiaddr, second.yiaddr) == (GUEST, NEXT)
    assert first.options[DhcpOption.CLIENT_IDENTIFIER] == b"\0one"


def test_same_client_same_address_again() -> None:
    lab = Lab()
    assert lab.lease().yiaddr == lab.lease().yiaddr == GUEST
    assert len(lab.user.leases) == 1


def test_an_offer_not_taken_is_free_after_a_minute_but_not_before() -> None:
    lab = Lab()
    lab.dhcp(DhcpMessageType.DISCOVER)
    assert reply(lab).yiaddr == GUEST
    lab.run(59)
    lab.dhcp(DhcpMessageType.DISCOVER, chaddr=OTHER_MAC)
    assert reply(lab).yiaddr == NEXT
    lab.run(1)
    third = MacAddress("52:54:00:12:34:58")
    lab.dhcp(DhcpMessageType.DISCOVER, chaddr=third)
    assert reply(lab).yiaddr == GUEST


def test_a_requested_free_address_is_given() -> None:
    lab = Lab()
    wanted = IPv4Address("10.0.2.20")
    lab.dhcp(DhcpMessageType.DISCOVER, {DhcpOption.REQUESTED_IP_ADDRESS: wanted.packed})
    assert reply(lab).yiaddr == wanted
    lab.dhcp(DhcpMessageType.DISCOVER, {DhcpOption.REQUESTED_IP_ADDRESS: wanted.packed}, chaddr=OTHER_MAC)
    assert reply(lab).yiaddr == GUEST


def test_a_shorter_lease_is_given_a_longer_one_is_not() -> None:
    lab = Lab()
    lab.dhcp(DhcpMessageType.DISCOVER, {DhcpOption.IP_ADDRESS_LEASE_TIME: (600).to_bytes(4, "big")})
    assert reply(lab).lease_time == 600
    lab.dhcp(DhcpMessageType.DISCOVER, {DhcpOption.IP_ADDRESS_LEASE_TIME: b"\xff\xff\xff\xff"})
    assert reply(lab).lease_time == DAY


def test_selecting_another_server_withdraws_the_offer() -> None:
    lab = Lab()
    lab.dhcp(DhcpMessageType.DISCOVER)
    lab.take()
    lab.dhcp(DhcpMessageType.REQUEST, selecting(GUEST, IPv4Address("10.0.2.9")))
    assert lab.take() == []
    assert lab.user.leases == ()
    assert lab.counters["dhcp-other-server"] == 1


def nak(lab: Lab) -> Dhcpv4:
    seen = lab.one()
    assert seen.dhcp is not None
    assert seen.ip is not None
    assert seen.dhcp.message_type == DhcpMessageType.NAK
    assert (seen.frame.destination, seen.ip.destination) == (BROADCAST_MAC, BROADCAST)
    assert seen.dhcp.server_identifier == GATEWAY
    assert int(seen.dhcp.yiaddr) == 0
    assert DhcpOption.IP_ADDRESS_LEASE_TIME not in seen.dhcp.options  # RFC 2131 table 3: MUST NOT
    return seen.dhcp


def test_selecting_what_was_not_offered_is_a_nak() -> None:
    lab = Lab()
    lab.dhcp(DhcpMessageType.DISCOVER)
    lab.take()
    lab.dhcp(DhcpMessageType.REQUEST, selecting(NEXT))
    assert b"not offered" in nak(lab).options[DhcpOption.MESSAGE]
    lab.dhcp(DhcpMessageType.REQUEST, selecting(GUEST), chaddr=OTHER_MAC)
    nak(lab)


def test_init_reboot() -> None:
    lab = Lab()
    reboot = {DhcpOption.REQUESTED_IP_ADDRESS: GUEST.packed}
    lab.dhcp(DhcpMessageType.REQUEST, reboot)
    assert lab.take() == []  # 4.3.2: no record of this client, so silence
    lab.lease()
    lab.run(100)
    lab.dhcp(DhcpMessageType.REQUEST, reboot)
    assert reply(lab).message_type == DhcpMessageType.ACK
    assert lab.user.leases[0].expires == (DAY + 100) * 1_000_000_000
    lab.dhcp(DhcpMessageType.REQUEST, {DhcpOption.REQUESTED_IP_ADDRESS: NEXT.packed})
    nak(lab)
    lab.dhcp(DhcpMessageType.REQUEST, {DhcpOption.REQUESTED_IP_ADDRESS: IPv4Address("192.168.1.5").packed}, chaddr=OTHER_MAC)
    nak(lab)


def test_renewing_extends_and_the_answer_is_unicast() -> None:
    lab = Lab()
    lab.lease()
    lab.run(DAY / 2)
    lab.dhcp(DhcpMessageType.REQUEST, ciaddr=GUEST, broadcast=True)
    seen = lab.one()
    assert seen.dhcp is not None
    assert seen.ip is not None
    assert (seen.dhcp.message_type, seen.dhcp.ciaddr, seen.dhcp.yiaddr) == (DhcpMessageType.ACK, GUEST, GUEST)
    assert (seen.frame.destination, seen.ip.destination) == (GUEST_MAC, GUEST)
    assert lab.user.leases[0].expires == (DAY + DAY // 2) * 1_000_000_000


def test_renewing_a_lease_of_a_former_server_takes_it_over_unless_it_is_taken() -> None:
    lab = Lab()
    lab.dhcp(DhcpMessageType.REQUEST, ciaddr=GUEST)
    assert reply(lab).message_type == DhcpMessageType.ACK
    lab.dhcp(DhcpMessageType.REQUEST, ciaddr=GUEST, chaddr=OTHER_MAC)
    nak(lab)


def test_release_frees_the_address_and_remembers_the_client() -> None:
    lab = Lab()
    lab.lease()
    lab.dhcp(DhcpMessageType.RELEASE, {DhcpOption.SERVER_IDENTIFIER: GATEWAY.packed}, ciaddr=GUEST)
    assert lab.take() == []
    assert lab.user.leases[0].state == "released"
    lab.dhcp(DhcpMessageType.DISCOVER, chaddr=OTHER_MAC)
    assert reply(lab).yiaddr == NEXT
    lab.dhcp(DhcpMessageType.DISCOVER)
    assert reply(lab).yiaddr == GUEST


def test_release_by_a_stranger_does_nothing() -> None:
    lab = Lab()
    lab.lease()
    lab.dhcp(DhcpMessageType.RELEASE, {DhcpOption.SERVER_IDENTIFIER: GATEWAY.packed}, ciaddr=GUEST, chaddr=OTHER_MAC)
    lab.dhcp(DhcpMessageType.RELEASE, {DhcpOption.SERVER_IDENTIFIER: NEXT.packed}, ciaddr=GUEST)
    lab.run()
    assert lab.user.leases[0].state == "bound"
    assert lab.counters["dhcp-release-ignored"] == 2


def test_a_declined_address_rests() -> None:
    lab = Lab()
    lab.lease()
    lab.dhcp(DhcpMessageType.DECLINE, selecting(GUEST))
    lab.dhcp(DhcpMessageType.DISCOVER)
    assert reply(lab).yiaddr == NEXT
    assert {lease.state for lease in lab.user.leases} == {"declined", "offered"}
    lab.run(600)
    assert [lease.state for lease in lab.user.leases] == []
    lab.dhcp(DhcpMessageType.DISCOVER, chaddr=OTHER_MAC)
    assert reply(lab).yiaddr == GUEST


def test_an_expired_lease_is_remembered_and_given_away_last() -> None:
    lab = Lab(UserOptions(lease_time=600, dhcpstart=IPv4Address("10.0.2.253")))
    lab.lease()
    lab.run(600)
    assert lab.user.leases[0].state == "expired"
    macs = [MacAddress(f"52:54:00:00:00:0{last}") for last in range(3)]
    given = []
    for mac in macs:
        lab.dhcp(DhcpMessageType.DISCOVER, chaddr=mac)
        seen = lab.take()
        given += [str(each.dhcp.yiaddr) for each in seen if each.dhcp]
    assert given == ["10.0.2.254", "10.0.2.253"]
    assert lab.counters["dhcp-pool-exhausted"] == 1


def test_inform_gives_parameters_and_no_lease() -> None:
    lab = Lab()
    lab.dhcp(DhcpMessageType.INFORM, ciaddr=IPv4Address("10.0.2.99"))
    seen = lab.one()
    assert seen.dhcp is not None
    assert seen.ip is not None
    assert (seen.dhcp.message_type, seen.dhcp.yiaddr) == (DhcpMessageType.ACK, IPv4Address(0))
    assert seen.ip.destination == IPv4Address("10.0.2.99")
    assert seen.dhcp.lease_time is None
    assert seen.dhcp.addresses(DhcpOption.DOMAIN_NAME_SERVER) == (DNS,)
    assert lab.user.leases == ()


@pytest.mark.parametrize(
    ("message", "counter"),
    [
        (dhcp_message(None, {DhcpOption.DHCP_MESSAGE_TYPE: b"\x63"}), "dhcp-unknown-type"),
        (dhcp_message(DhcpMessageType.OFFER), "dhcp-unknown-type"),
        (dhcp_message(DhcpMessageType.DISCOVER, giaddr=GUEST), "dhcp-relayed"),
        (replace(dhcp_message(DhcpMessageType.DISCOVER), op=BOOTREPLY), "dhcp-not-a-request"),
        (dhcp_message(DhcpMessageType.REQUEST), "dhcp-request-without-address"),
    ],
)
def test_what_gets_no_answer_is_counted(message: Dhcpv4, counter: str) -> None:
    lab = Lab()
    lab.dhcp_octets(message.pack())
    assert lab.take() == []
    assert lab.counters[counter] == 1


def test_the_reply_fits_the_size_the_client_takes() -> None:
    names = tuple(f"{'x' * 50}{number}.example" for number in range(20))

    def offer(size: int | None) -> tuple[int, Dhcpv4]:
        """Octets of the datagram, and what is in it."""
        lab = Lab(UserOptions(dnssearch=names))
        lab.dhcp(DhcpMessageType.DISCOVER, {} if size is None else {DhcpOption.MAXIMUM_DHCP_MESSAGE_SIZE: size.to_bytes(2, "big")})
        seen = lab.one()
        assert seen.ip is not None
        assert seen.dhcp is not None
        left_out = DhcpOption.DOMAIN_SEARCH not in seen.dhcp.options
        assert lab.counters["dhcp-option-left-out"] == left_out
        return 20 + len(seen.ip.payload), seen.dhcp

    whole, message = offer(1500)
    assert parse_domain_search(message.options[DhcpOption.DOMAIN_SEARCH]) == names
    assert offer(whole)[0] == whole > 576
    for too_little in (whole - 1, 100, None):
        size, message = offer(too_little)
        assert size <= 576
        assert DhcpOption.DOMAIN_SEARCH not in message.options


def test_a_bootp_client_has_its_address_for_ever() -> None:
    lab = Lab(UserOptions(hostname="guest", domainname="x" * 60, bootfile="pxe.0"))
    lab.dhcp(None, broadcast=True)
    seen = lab.one()
    reply = seen.dhcp
    assert reply is not None
    assert seen.udp is not None
    assert (reply.op, reply.xid, reply.yiaddr, reply.siaddr, reply.file) == (2, 0x1234, GUEST, GATEWAY, b"pxe.0")
    assert not {DhcpOption.DHCP_MESSAGE_TYPE, DhcpOption.SERVER_IDENTIFIER, DhcpOption.IP_ADDRESS_LEASE_TIME} & reply.options.keys()
    assert (reply.options[DhcpOption.ROUTER], reply.options[DhcpOption.HOST_NAME]) == (GATEWAY.packed, b"guest")
    assert DhcpOption.DOMAIN_NAME not in reply.options  # it does not fit
    assert len(seen.udp.payload) == 300
    assert seen.frame.destination == BROADCAST_MAC
    lab.run(100_000)
    (lease,) = lab.user.leases
    assert (lease.address, lease.state) == (GUEST, "bound")
    lab.dhcp(None)
    again = lab.one()
    assert again.dhcp is not None
    assert (again.dhcp.yiaddr, again.frame.destination) == (GUEST, GUEST_MAC)


def test_a_bootp_client_without_the_magic_cookie() -> None:
    lab = Lab()
    octets = dhcp_message(None).pack()
    lab.dhcp_octets(octets[:236] + bytes(64))
    assert lab.one().dhcp is not None


def test_a_bootp_client_finds_no_address_left() -> None:
    lab = Lab(UserOptions(pool_size=1))
    lab.dhcp(None)
    lab.take()
    lab.dhcp(None, chaddr=MacAddress("52:54:00:00:00:01"))
    assert lab.take() == []
    assert lab.counters["dhcp-pool-exhausted"] == 1


def test_asking_again_does_not_shorten_a_lease() -> None:
    lab = Lab()
    lab.lease()
    before = lab.user.leases
    lab.run(10)
    lab.dhcp(DhcpMessageType.DISCOVER)
    assert reply(lab).yiaddr == GUEST
    assert lab.user.leases == before


def test_options_in_overloaded_fields_count() -> None:
    lab = Lab()
    wanted = IPv4Address("10.0.2.22")
    plain = dhcp_message(DhcpMessageType.DISCOVER).pack()
    in_file = bytes((50, 4)) + wanted.packed + b"\xff"
    overloaded = plain[:108] + in_file.ljust(128, b"\0") + plain[236:240] + bytes((53, 1, 1, 52, 1, 1, 255))
    lab.dhcp_octets(overloaded)
    assert reply(lab).yiaddr == wanted
