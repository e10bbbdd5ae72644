"""The network tools of Debian as judges: curl, smbclient, dig, ping, traceroute, rdisc6 and ndisc6.

They run in a guest of this machine's kernel, which is a namespace, and so is the host with its servers: packets go through two
kernels and the network between them, and no further. One guest serves all checks; each leaves it as it was.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from netemu.guest.netns import NetnsGuest
from netemu.io.namespace import Namespace
from netemu.io.oshost import NetnsHost
from netemu.netdev.user import UserNetdev
from netemu.network import Network
from netemu.peers import smbd

ANSWERED = 60.0  # seconds; a limit for a crowded machine, never waited for
SERVER, SERVER6 = "198.51.100.7", "2001:db8::7"
GUEST6, LINK_LOCAL = "fec0::99", "fe80::5054:ff:fe12:3456"
BLOB = bytes(range(256)) * 4000 + b"the end"
MANY = [f"192.0.2.{last}" for last in range(1, 100)]
PACKAGES = {
    "curl": "curl",
    "smbclient": "smbclient",
    "dig": "bind9-dnsutils",
    "ping": "iputils-ping",
    "traceroute": "traceroute",
    "rdisc6": "ndisc6",
    "ndisc6": "ndisc6",
}


class Pages(BaseHTTPRequestHandler):
    """GET gives the blob, POST gives back what was sent, and every answer says who asked."""

    protocol_version = "HTTP/1.1"

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Client", self.client_address[0])
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.answer(BLOB)

    def do_POST(self) -> None:
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))

    def log_message(self, *_: object) -> None:
        pass


class WebServer(ThreadingHTTPServer):
    def __init__(self, address: str, port: int) -> None:
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        super().__init__((address, port), Pages)

    def handle_error(self, *_: object) -> None:
        """A connection may end with its guest."""


@contextmanager
def web_server(namespace: Namespace, address: str, port: int) -> Iterator[None]:
    server = namespace.call(WebServer, address, port)  # its socket stays where it was made
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Site:
    def __init__(self, network: Network, made: ExitStack, shared: Path) -> None:
        self.shared = shared
        self.network = network
        assert isinstance(network.host, NetnsHost)
        self.host = network.host
        self.names = self.host.dns_server(
            {"www.example.test": [SERVER, SERVER6], "many.example.test": MANY, "alias.example.test": "192.0.2.80"}
        )
        options = [
            "user,dns-name=db.test=192.0.2.5,dnssearch=a.example",
            "hostfwd=tcp:127.0.0.1:8080-:80",
            f"hostfwd=tcp:[::1]:8080-[{GUEST6}]:80",
            *([] if smbd.probe() else [f"smb={shared}"]),
        ]
        user = network.netdev(",".join(options))
        assert isinstance(user, UserNetdev)
        self.user = user
        guest = network.guest("netns", netdev=user)
        assert isinstance(guest, NetnsGuest)
        self.guest = guest
        for name, value in (("accept_dad", "0"), ("accept_ra", "0")):  # addresses are there at once, and no other comes
            guest.namespace.set_sysctl(f"net/ipv6/conf/{guest.interface}/{name}", value)
        guest.dhcp4(timeout=ANSWERED)
        self.run(f"ip addr flush scope link dev eth0 && ip addr add {LINK_LOCAL}/64 dev eth0 nodad")
        self.run(f"ip addr add {GUEST6}/64 dev eth0 nodad && ip route add default via fe80::2 dev eth0")
        for namespace, address in (
            (self.host.namespace, SERVER),
            (self.host.namespace, SERVER6),
            (guest.namespace, "0.0.0.0"),
            (guest.namespace, GUEST6),
        ):
            made.enter_context(web_server(namespace, address, 80))

    def run(self, command: str) -> str:
        """What `command` says in the guest."""
        result = self.guest.run(f"{command} 2>&1", timeout=ANSWERED)
        assert result.status == 0, f"{command}: status {result.status}\n{result.output}"
        return result.output

    def on_the_host(self, *command: str) -> bytes:
        """What `command` says where the host's sockets are."""
        process = self.host.namespace.call(subprocess.Popen, command, stdout=subprocess.PIPE)
        output = process.communicate(timeout=ANSWERED)[0]
        assert process.returncode == 0, f"{command}: status {process.returncode}"
        return output


@pytest.fixture(scope="module")
def site(netemu_platform, tmp_path_factory) -> Iterator[Site]:
    netemu_platform.require_part("guest", "netns", NetnsGuest.probe)
    with (
        Namespace("host") as namespace,
        Network(clock="real", host=lambda loop: NetnsHost(loop, namespace, addresses=(SERVER, SERVER6))) as network,
        ExitStack() as made,
    ):
        namespace.set_ping_group_range(0, 2_147_483_647)
        yield Site(network, made, tmp_path_factory.mktemp("shared"))


@pytest.fixture
def tool(netemu_platform, request):
    """The program that a test is named for: `test_curl_...`."""
    name = request.function.__name__.split("_")[1]
    netemu_platform.require_part(
        "program", name, lambda: None if shutil.which(name) else f"install the Debian package {PACKAGES[name]}"
    )


pytestmark = pytest.mark.usefixtures("tool")


# HTTP, out and in


@pytest.mark.parametrize("where", ["http://www.example.test", f"http://{SERVER}", f"http://[{SERVER6}]"])
def test_curl_downloads_and_uploads(site: Site, tmp_path: Path, where: str) -> None:
    (tmp_path / "blob").write_bytes(BLOB)
    site.run(f"curl -sSf -o {tmp_path}/down {where}/blob --next -sSf --data-binary @{tmp_path}/blob -o {tmp_path}/up {where}/echo")
    assert (tmp_path / "down").read_bytes() == BLOB
    assert (tmp_path / "up").read_bytes() == BLOB


def test_curl_keeps_a_connection(site: Site) -> None:
    """Several requests one after the other, and many connections side by side."""
    said = site.run(f"curl -sSf -o /dev/null -w '%{{num_connects}} ' http://{SERVER}/[1-5]")
    assert said.split() == ["1", "0", "0", "0", "0"]
    said = site.run(f"curl -sSf -Z -o /dev/null -w '\nsize=%{{size_download}}\n' http://{SERVER}/[1-20]")
    assert said.splitlines().count(f"size={len(BLOB)}") == 20


def test_curl_is_told_of_a_closed_port(site: Site) -> None:
    for where in ("10.0.2.2", SERVER, f"[{SERVER6}]"):
        result = site.guest.run(f"curl -sv http://{where}:81/ 2>&1", timeout=ANSWERED)
        assert (result.status, "Connection refused" in result.output) == (7, True), result.output  # curl(1): failed to connect


@pytest.mark.parametrize(("where", "seen"), [("127.0.0.1", "10.0.2.2"), ("[::1]", "fec0::2")])
def test_curl_comes_in_by_a_forwarded_port(site: Site, where: str, seen: str) -> None:
    said = site.on_the_host("curl", "-sSfi", f"http://{where}:8080/blob")
    head, _, body = said.partition(b"\r\n\r\n")
    assert body == BLOB
    assert f"X-Client: {seen}".encode() in head.splitlines()


# Files


@pytest.mark.parametrize("port", [445, 139])
def test_smbclient_writes_lists_reads_and_removes(site: Site, netemu_platform, tmp_path: Path, port: int) -> None:
    netemu_platform.require_part("program", "smbd", smbd.probe)
    (tmp_path / "blob").write_bytes(BLOB)

    def smb(commands: str) -> str:
        return site.run(f"smbclient -N -s /dev/null -p {port} //10.0.2.4/qemu -c '{commands}'")

    smb(f"mkdir dir; put {tmp_path}/blob dir/blob")
    assert (site.shared / "dir" / "blob").read_bytes() == BLOB
    assert str(len(BLOB)) in smb("ls dir/*")
    smb(f"get dir/blob {tmp_path}/back; del dir/blob; rmdir dir")
    assert (tmp_path / "back").read_bytes() == BLOB
    assert not (site.shared / "dir").exists()


# Names


@pytest.mark.parametrize("server", ["10.0.2.3", "fec0::3"])
@pytest.mark.parametrize("way", ["+notcp", "+tcp"])
def test_dig_asks_over_both_families_and_transports(site: Site, server: str, way: str) -> None:
    ask = f"dig @{server} {way} +tries=1 +time=30"
    assert site.run(f"{ask} +short www.example.test A").split() == [SERVER]
    assert site.run(f"{ask} +short www.example.test AAAA").split() == [SERVER6]
    assert "status: NXDOMAIN" in site.run(f"{ask} none.example.test")
    nodata = site.run(f"{ask} www.example.test MX")
    assert "status: NOERROR" in nodata
    assert "ANSWER: 0" in nodata


def test_dig_turns_to_tcp_for_a_long_answer(site: Site) -> None:
    said = site.run("dig @10.0.2.3 +time=30 many.example.test")
    assert "Truncated, retrying in TCP mode" in said
    assert "ANSWER: 99" in said


def test_dig_finds_the_networks_own_names(site: Site) -> None:
    """Which the host's name server does not know."""
    for server in ("10.0.2.3", "fec0::3"):
        assert site.run(f"dig @{server} +time=30 +short db.test A").split() == ["192.0.2.5"]
    assert "db.test" not in [name.rstrip(".") for name, _ in site.names.questions]


# Packets


@pytest.mark.parametrize("address", ["10.0.2.2", "10.0.2.3", SERVER, "fec0::2", "fe80::2%eth0", SERVER6])
@pytest.mark.parametrize("size", [0, 56, 4000])
def test_ping_is_answered(site: Site, address: str, size: int) -> None:
    said = site.run(f"ping -n -c 3 -w 30 -i 0.01 -s {size} {address}")
    assert "3 received" in said
    assert "DUP" not in said
    assert "wrong data" not in said


def test_ping_is_told_that_there_is_no_way(site: Site) -> None:
    site.host.unreachable("203.0.113.0/24")
    result = site.guest.run("ping -n -c 1 203.0.113.9 2>&1", timeout=ANSWERED)
    assert result.status != 0
    assert "From 10.0.2.2 icmp_seq=1 Destination Net Unreachable" in result.output


@pytest.mark.parametrize("how", ["", "-I", "-T -p 80", "-6", "-6 -I"])
def test_traceroute_sees_the_gateway_and_the_host_behind_it(site: Site, how: str) -> None:
    """By UDP, ICMP and TCP: the gateway's errors, then the destination's own answer."""
    gateway, server = ("fec0::2", SERVER6) if "-6" in how else ("10.0.2.2", SERVER)
    said = site.run(f"traceroute {how} -n -q 1 -N 1 -w 30 -m 4 {server}").splitlines()
    assert [line.split()[:2] for line in said[1:]] == [["1", gateway], ["2", server]], said


# The link


def test_rdisc6_reads_the_router(site: Site) -> None:
    said = " ".join(site.run("rdisc6 -1 -r 5 -w 10000 eth0").split())
    for words in (
        "Hop limit : 64",
        "Stateful address conf. : Yes",
        "Router lifetime : 1800",
        "Prefix : fec0::/64",
        "On-link : Yes",
        "Autonomous address conf.: Yes",
        "MTU : 1500 bytes",
        "Source link-layer address: 52:55:0A:00:02:02",
        "Recursive DNS server : fec0::3",
        "DNS search list : a.example",
        "from fe80::2",
    ):
        assert words in said, f"{words}:\n{said}"


@pytest.mark.parametrize("address", ["fec0::2", "fec0::3", "fe80::2"])
def test_ndisc6_finds_the_networks_addresses(site: Site, address: str) -> None:
    assert site.run(f"ndisc6 -q -1 -r 5 -w 10000 {address} eth0").strip() == "52:55:0A:00:02:02"


def test_ndisc6_finds_nobody_at_another_address(site: Site) -> None:
    result = site.guest.run("ndisc6 -q -1 -r 1 -w 200 fec0::77 eth0 2>&1", timeout=ANSWERED)
    assert (result.status, result.output.strip()) == (2, "")
