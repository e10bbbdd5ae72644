"""The DHCPv6 server of a user-mode network."""

from ipaddress import IPv6Address

import pytest
from user_driver6 import DNS, GATEWAY, GATEWAY_MAC, GUEST_MAC, LINK_LOCAL, ROUTER, Lab6

from netemu.user.options import UserOptions
from netemu.wire.dhcpv6 import (
    Dhcpv6,
    Dhcpv6MessageType,
    Dhcpv6Option,
    Dhcpv6StatusCode,
    IaAddress,
    IaNa,
    duid_ll,
    pack_numbers,
)

CLIENT = duid_ll(GUEST_MAC)
SERVER = duid_ll(GATEWAY_MAC)
FIRST = IPv6Address("fec0::15")
Type = Dhcpv6MessageType
Code = Dhcpv6StatusCode


def message(
    kind: int,
    *identities: IaNa,
    server: bytes | None = None,
    client: bytes | None = CLIENT,
    wants: tuple[int, ...] = (),
    rapid: bool = False,
) -> Dhcpv6:
    options: list[tuple[int, bytes]] = []
    if client is not None:
        options.append((Dhcpv6Option.CLIENTID, client))
    if server is not None:
        options.append((Dhcpv6Option.SERVERID, server))
    options += [(Dhcpv6Option.IA_NA, identity.pack()) for identity in identities]
    if wants:
        options.append((Dhcpv6Option.ORO, pack_numbers(*wants)))
    if rapid:
        options.append((Dhcpv6Option.RAPID_COMMIT, b""))
    return Dhcpv6(kind, 0x123456, tuple(options))


def ask(lab: Lab6, sent: Dhcpv6, destination: IPv6Address | None = None) -> Dhcpv6:
    lab.dhcp(sent) if destination is None else lab.dhcp(sent, destination)
    seen = lab.one()
    assert (seen.ip.source, seen.ip.destination, seen.frame.destination) == (ROUTER, LINK_LOCAL, GUEST_MAC)
    reply = seen.dhcp
    assert (reply.transaction_id, reply.server_id) == (0x123456, SERVER)
    assert reply.client_id == sent.client_id
    return reply


def silent(lab: Lab6, sent: Dhcpv6, reason: str, destination: IPv6Address | None = None) -> None:
    lab.dhcp(sent) if destination is None else lab.dhcp(sent, destination)
    assert lab.take() == []
    assert lab.counters[f"dhcpv6-{reason}"] == 1


def named(address: IPv6Address | str, iaid: int = 1) -> IaNa:
    return IaNa(iaid, addresses=(IaAddress(IPv6Address(address), 0, 0),))


def leased(lab: Lab6) -> None:
    assert ask(lab, message(Type.REQUEST, IaNa(1), server=SERVER)).ia_nas[0].addresses[0].address == FIRST


def given(reply: Dhcpv6) -> IaNa:
    (identity,) = reply.ia_nas
    return identity


def test_solicit_advertise_request_reply() -> None:
    lab = Lab6()
    offer = ask(lab, message(Type.SOLICIT, IaNa(1)))
    assert (offer.message_type, offer.preference) == (Type.ADVERTISE, 255)
    assert given(offer) == IaNa(1, 43_200, 69_120, (IaAddress(FIRST, 86_400, 86_400),))
    assert [lease.state for lease in lab.network.leases6] == ["offered"]
    reply = ask(lab, message(Type.REQUEST, given(offer), server=SERVER))
    assert (reply.message_type, given(reply)) == (Type.REPLY, given(offer))
    (lease,) = lab.network.leases6
    assert (lease.address, lease.state, lease.mac) == (FIRST, "bound", GUEST_MAC)


def test_rapid_commit() -> None:
    lab = Lab6()
    reply = ask(lab, message(Type.SOLICIT, IaNa(1), rapid=True))
    assert (reply.message_type, reply.rapid_commit) == (Type.REPLY, True)
    assert [lease.state for lease in lab.network.leases6] == ["bound"]


def test_each_identity_has_an_address_of_its_own() -> None:
    lab = Lab6()
    reply = ask(lab, message(Type.REQUEST, IaNa(1), IaNa(2), server=SERVER))
    assert [str(each.addresses[0].address) for each in reply.ia_nas] == ["fec0::15", "fec0::16"]
    other = ask(lab, message(Type.REQUEST, IaNa(1), server=SERVER, client=b"\0\3other"))
    assert str(given(other).addresses[0].address) == "fec0::17"


def test_a_wanted_address_is_given_if_it_is_free() -> None:
    lab = Lab6()
    assert given(ask(lab, message(Type.REQUEST, named("fec0::1a"), server=SERVER))).addresses[0].address == IPv6Address("fec0::1a")


def test_an_offer_is_kept_for_a_minute() -> None:
    lab = Lab6()
    ask(lab, message(Type.SOLICIT, IaNa(1)))
    lab.take(59)
    assert len(lab.network.leases6) == 1
    lab.take(2)
    assert lab.network.leases6 == ()


def test_what_is_asked_for_is_told() -> None:
    options = UserOptions(dnssearch=("a.example",), bootfile="boot.efi")
    lab = Lab6(options)
    wants = (Dhcpv6Option.DNS_SERVERS, Dhcpv6Option.DOMAIN_LIST, Dhcpv6Option.BOOTFILE_URL, Dhcpv6Option.INFORMATION_REFRESH_TIME)
    reply = ask(lab, message(Type.INFORMATION_REQUEST, wants=wants))
    assert (reply.message_type, reply.dns_servers, reply.domain_list) == (Type.REPLY, (DNS,), ("a.example",))
    assert reply.value(Dhcpv6Option.BOOTFILE_URL) == b"tftp://[fec0::2]/boot.efi"
    assert reply.value(Dhcpv6Option.INFORMATION_REFRESH_TIME) == (86_400).to_bytes(4, "big")
    assert ask(lab, message(Type.INFORMATION_REQUEST)).dns_servers == ()


def test_a_boot_file_may_be_anywhere() -> None:
    lab = Lab6(UserOptions(bootfile="http://boot.example/x"))
    reply = ask(lab, message(Type.INFORMATION_REQUEST, wants=(Dhcpv6Option.BOOTFILE_URL,)))
    assert reply.value(Dhcpv6Option.BOOTFILE_URL) == b"http://boot.example/x"


def test_a_restricted_network_names_no_dns_server() -> None:
    lab = Lab6(UserOptions(restrict=True))
    assert ask(lab, message(Type.INFORMATION_REQUEST, wants=(Dhcpv6Option.DNS_SERVERS,))).dns_servers == ()


@pytest.mark.parametrize(("kind", "server"), [(Type.RENEW, SERVER), (Type.REBIND, None)])
def test_a_lease_is_extended(kind: int, server: bytes | None) -> None:
    lab = Lab6()
    leased(lab)
    lab.take(80_000)
    assert given(ask(lab, message(kind, named(FIRST), server=server))).addresses[0].valid_lifetime == 86_400
    lab.take(80_000)
    assert [lease.state for lease in lab.network.leases6] == ["bound"]


@pytest.mark.parametrize(("kind", "server"), [(Type.RENEW, SERVER), (Type.REBIND, None)])
def test_what_cannot_be_extended(kind: int, server: bytes | None) -> None:
    lab = Lab6()
    leased(lab)
    others = given(ask(lab, message(kind, named(FIRST), server=server, client=b"\0\3other")))
    assert (others.addresses, others.status and others.status.code) == ((), Code.NO_BINDING)
    foreign = given(ask(lab, message(kind, named("2001:db8::5"), server=server)))
    assert foreign.addresses == (IaAddress(IPv6Address("2001:db8::5"), 0, 0),)


def test_a_fresh_network_extends_what_it_would_have_leased() -> None:
    lab = Lab6()
    assert given(ask(lab, message(Type.RENEW, named("fec0::16"), server=SERVER))).addresses[0].valid_lifetime == 86_400


def test_confirm() -> None:
    lab = Lab6()
    here = ask(lab, message(Type.CONFIRM, named(FIRST))).status
    assert here is not None
    assert here.code == Code.SUCCESS
    elsewhere = ask(lab, message(Type.CONFIRM, named(FIRST), named("2001:db8::5", 2))).status
    assert elsewhere is not None
    assert elsewhere.code == Code.NOT_ON_LINK
    silent(lab, message(Type.CONFIRM, IaNa(1)), "confirm-without-address")


def test_a_request_for_another_networks_address() -> None:
    identity = given(ask(Lab6(), message(Type.REQUEST, named("2001:db8::5"), server=SERVER)))
    assert (identity.addresses, identity.status and identity.status.code) == ((), Code.NOT_ON_LINK)


def test_release_and_decline() -> None:
    lab = Lab6()
    leased(lab)
    reply = ask(lab, message(Type.RELEASE, named(FIRST), server=SERVER))
    assert reply.status is not None
    assert (reply.status.code, reply.ia_nas) == (Code.SUCCESS, ())
    assert [lease.state for lease in lab.network.leases6] == ["released"]
    again = given(ask(lab, message(Type.RELEASE, named(FIRST), server=SERVER)))
    assert again.status is not None
    assert again.status.code == Code.NO_BINDING
    leased(lab)  # the same address again
    ask(lab, message(Type.DECLINE, named(FIRST), server=SERVER))
    assert [lease.state for lease in lab.network.leases6] == ["declined"]
    other = given(ask(lab, message(Type.REQUEST, IaNa(1), server=SERVER)))
    assert str(other.addresses[0].address) == "fec0::16"


def test_the_pool_ends() -> None:
    lab = Lab6(UserOptions.from_pairs([("ipv6-prefixlen", "126")]))
    identity = given(ask(lab, message(Type.SOLICIT, IaNa(1))))
    assert (identity.addresses, identity.status and identity.status.code) == ((), Code.NO_ADDRS_AVAIL)
    assert lab.counters["dhcpv6-pool-exhausted"] == 1


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (message(Type.SOLICIT, IaNa(1), client=None), "no-client-id"),
        (message(Type.SOLICIT, IaNa(1), server=SERVER), "names-server"),
        (message(Type.REBIND, named(FIRST), server=SERVER), "names-server"),
        (message(Type.REQUEST, IaNa(1)), "other-server"),
        (message(Type.REQUEST, IaNa(1), server=CLIENT), "other-server"),
        (message(Type.INFORMATION_REQUEST, server=CLIENT), "other-server"),
        (message(Type.INFORMATION_REQUEST, IaNa(1)), "information-for-identity"),
        (message(Type.REPLY, IaNa(1)), "unknown-type"),
    ],
)
def test_what_is_discarded(sent: Dhcpv6, reason: str) -> None:
    silent(Lab6(), sent, reason)


@pytest.mark.parametrize("destination", [GATEWAY, ROUTER])
def test_unicast(destination: IPv6Address) -> None:
    lab = Lab6()
    lab.udp(destination, 547, message(Type.REQUEST, IaNa(1), server=SERVER).pack(), source=LINK_LOCAL, source_port=546)
    reply = lab.one().dhcp
    assert reply.status is not None
    assert (reply.status.code, reply.ia_nas) == (Code.USE_MULTICAST, ())
    silent(lab, message(Type.SOLICIT, IaNa(1)), "unicast", destination)


def test_stateless_only_tells() -> None:
    lab = Lab6(UserOptions(dhcpv6="stateless"))
    silent(lab, message(Type.SOLICIT, IaNa(1)), "unknown-type")
    assert ask(lab, message(Type.INFORMATION_REQUEST, wants=(Dhcpv6Option.DNS_SERVERS,))).dns_servers == (DNS,)


def test_off_is_silent() -> None:
    lab = Lab6(UserOptions(dhcpv6="off"))
    lab.dhcp(message(Type.INFORMATION_REQUEST))
    assert lab.take() == []


def test_information_needs_no_client_identifier() -> None:
    lab = Lab6()
    lab.dhcp(message(Type.INFORMATION_REQUEST, client=None, wants=(Dhcpv6Option.DNS_SERVERS,)))
    reply = lab.one().dhcp
    assert (reply.client_id, reply.dns_servers) == (None, (DNS,))
