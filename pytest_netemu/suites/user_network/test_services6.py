"""What a user-mode network serves over IPv6: a boot file by its URL (RFC 5970, RFC 1350), forwards, servers on the link."""

from __future__ import annotations

from ipaddress import IPv6Address
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import pytest

from netemu.netdev.protocol import UserBackend
from netemu.network import Network
from netemu.wire import tftp
from netemu.wire.dhcpv6 import Dhcpv6, Dhcpv6MessageType, Dhcpv6Option, duid_ll, pack_numbers
from netemu.wire.ipv6 import IPv6, NextHeader
from netemu.wire.tcp import ACK, SYN, Tcp, TcpOptions
from netemu.wire.udp import Udp
from pytest_netemu.factories import BackendFactory
from pytest_netemu.suites import judges
from pytest_netemu.tester import Tester
from pytest_netemu.tester6 import Tester6

pytestmark = pytest.mark.netemu_requires("ipv6")

_CONTENT = bytes(range(256))
_SERVER = IPv6Address("fec0::100")
_ISN = 1_000_000


@judges("rfc5970/3.1/01")
@pytest.mark.netemu_requires("dhcp6.server", "tftp.server")
def test_the_boot_file_is_where_its_url_says(
    netemu: Network, netemu_backend: UserBackend, netemu_backend_factory: BackendFactory
) -> None:
    del netemu_backend  # it says which kind
    with TemporaryDirectory() as name:
        directory = Path(name) / "served"
        directory.mkdir()
        (directory / "pxe").write_bytes(_CONTENT)
        Path(name).chmod(0o755)
        tester = Tester6(Tester(netemu, netemu_backend_factory(tftp=str(directory), bootfile="pxe")))
        wishes = (int(Dhcpv6Option.ORO), pack_numbers(Dhcpv6Option.BOOTFILE_URL))
        identity = (int(Dhcpv6Option.CLIENTID), duid_ll(tester.mac))
        tester.send_dhcp(Dhcpv6(Dhcpv6MessageType.INFORMATION_REQUEST, 1, (identity, wishes)))
        url = urlsplit((tester.tester.expect(Dhcpv6)[Dhcpv6].value(Dhcpv6Option.BOOTFILE_URL) or b"").decode("ascii"))
        assert url.scheme == "tftp"
        request = tftp.Request(tftp.Opcode.RRQ, url.path.lstrip("/"))
        tester.send_udp(request.pack(), tftp.SERVER_PORT, IPv6Address(url.hostname or ""))
        answer = tester.tester.expect(Udp, destination_port=40_000)
        assert answer[IPv6].source == IPv6Address(url.hostname or "")
        assert tftp.parse(answer[Udp].payload) == tftp.Data(1, _CONTENT)


@judges("qemu/hostfwd/02")
@pytest.mark.netemu_requires("hostfwd.udp", "hostfwd.ipv6", "hostfwd.runtime")
def test_a_forward_of_ipv6_listens_at_its_address_only(netemu_tester: Tester) -> None:
    tester, backend = Tester6(netemu_tester), netemu_tester.backend
    assert tester.gateway_mac  # asked for, so that an answer finds its way
    forward = backend.add_hostfwd(f"udp:[::1]:0-[{tester.address}]:7000")
    assert str(forward.host.address) == "::1"
    with backend.host.udp("::1") as client, backend.host.udp("127.0.0.1") as stranger:
        stranger.send_to(b"elsewhere", "127.0.0.1", forward.host.port)
        client.send_to(b"question", "::1", forward.host.port)
        arrived = netemu_tester.expect(Udp, destination_port=7000)
        assert (arrived[Udp].payload, arrived[IPv6].destination) == (b"question", tester.address)
        reply = Udp(7000, arrived[Udp].source_port, b"answer").pack(tester.address, arrived[IPv6].source)
        tester.send(IPv6(tester.address, arrived[IPv6].source, NextHeader.UDP, reply))
        assert client.recv().data == b"answer"


@judges("qemu/guestfwd/01")
@pytest.mark.netemu_requires("guestfwd.tcp", "guestfwd.ipv6")
def test_a_connection_to_a_server_in_ipv6_goes_to_the_target(
    netemu: Network, netemu_backend: UserBackend, netemu_backend_factory: BackendFactory
) -> None:
    host = netemu_backend.host
    with host.tcp_listen("127.0.0.1") as listener:
        rule = f"tcp:[{_SERVER}]:80-tcp:127.0.0.1:{listener.port}"
        tester = Tester6(Tester(netemu, netemu_backend_factory(guestfwd=rule)))
        opening = Tcp(40_000, 80, _ISN, 0, flags=SYN, window=65_535, options=TcpOptions(mss=1440))
        tester.send(IPv6(tester.address, _SERVER, NextHeader.TCP, opening.pack(tester.address, _SERVER)))
        answer = tester.tester.expect(Tcp, destination_port=40_000, flags=SYN | ACK)
        assert answer[IPv6].source == _SERVER
        with listener.accept() as served:
            assert served.remote.address.is_loopback
