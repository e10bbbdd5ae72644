"""The DHCPv6 server of a user-mode network (RFC 8415)."""

from __future__ import annotations

import pytest

from netemu.wire.dhcpv6 import Dhcpv6, Dhcpv6MessageType, Dhcpv6Option, IaNa, duid_ll, pack_numbers
from pytest_netemu.suites import judges
from pytest_netemu.tester import Tester
from pytest_netemu.tester6 import Tester6

pytestmark = pytest.mark.netemu_requires("ipv6", "dhcp6.server")

_TRANSACTION = 0x5EED
_WISHES = (int(Dhcpv6Option.ORO), pack_numbers(Dhcpv6Option.DNS_SERVERS))


def _message(tester: Tester6, kind: Dhcpv6MessageType, *options: tuple[int, bytes], client: bool = True) -> Dhcpv6:
    identity = ((int(Dhcpv6Option.CLIENTID), duid_ll(tester.mac)),) if client else ()
    return Dhcpv6(kind, _TRANSACTION, (*identity, *options))


@judges("rfc8415/18.3/01")
def test_an_answer_names_the_server_and_the_client(netemu_tester: Tester) -> None:
    tester = Tester6(netemu_tester)
    tester.send_dhcp(_message(tester, Dhcpv6MessageType.INFORMATION_REQUEST, _WISHES))
    answer = netemu_tester.expect(Dhcpv6, transaction_id=_TRANSACTION)[Dhcpv6]
    assert answer.server_id, "the answer has no server identifier"
    assert answer.client_id == duid_ll(tester.mac)


@judges("rfc8415/16.2/01")
@pytest.mark.parametrize("wrong", ["no client", "a server"])
def test_a_wrong_solicit_is_discarded(netemu_tester: Tester, wrong: str) -> None:
    tester = Tester6(netemu_tester)
    identity = (int(Dhcpv6Option.IA_NA), IaNa(1).pack())
    server = () if wrong == "no client" else ((int(Dhcpv6Option.SERVERID), duid_ll(tester.gateway_mac)),)
    tester.send_dhcp(_message(tester, Dhcpv6MessageType.SOLICIT, identity, *server, client=wrong != "no client"))
    netemu_tester.silence(Dhcpv6)


@judges("rfc8415/16.6/01")
@pytest.mark.parametrize("wrong", ["no server", "another server", "no client"])
def test_a_wrong_renewal_is_discarded(netemu_tester: Tester, wrong: str) -> None:
    tester = Tester6(netemu_tester)
    tester.send_dhcp(_message(tester, Dhcpv6MessageType.INFORMATION_REQUEST, _WISHES))
    server = netemu_tester.expect(Dhcpv6)[Dhcpv6].server_id
    identities = {"no server": None, "another server": duid_ll(tester.mac), "no client": server}
    chosen = identities[wrong]
    named = () if chosen is None else ((int(Dhcpv6Option.SERVERID), chosen),)
    identity = (int(Dhcpv6Option.IA_NA), IaNa(1).pack())
    tester.send_dhcp(_message(tester, Dhcpv6MessageType.RENEW, *named, identity, client=wrong != "no client"))
    netemu_tester.silence(Dhcpv6)
