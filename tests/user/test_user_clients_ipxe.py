"""iPXE as a judge: the firmware of three network cards boots by DHCP, TFTP, DNS and HTTP, as three guests of one user network.

The script it boots chains another over TFTP, whose lines add up to a number, so every octet of it has to arrive; that one chains a
third over HTTP, from a server that is behind the gateway and has a name.
"""

from contextlib import ExitStack
from pathlib import Path

from ipxe_machine import IpxeMachine, probe

from netemu.io.simhost import SimHost
from netemu.net.sockets import StreamSocket
from netemu.network import Network

BOOTED = 120.0  # seconds; a limit for a crowded machine, never waited for
MACS = {"virtio-net-pci": "52:54:00:12:34:56", "e1000": "52:54:00:12:34:57", "rtl8139": "52:54:00:12:34:58"}
ADDENDS = [number * 7919 % 100_003 for number in range(1200)]
FIRST = "#!ipxe\necho lease ${netmask} ${gateway} ${dns} ${next-server} ${filename} ${domain}\nchain second.ipxe || reboot\n"
SECOND = [
    "#!ipxe",
    "set sum:int32 0",
    *(f"inc sum {addend}" for addend in ADDENDS),
    "echo the sum is ${sum}",
    "chain http://boot.test/third.ipxe || reboot",
]
THIRD = b"#!ipxe\necho third ${net0/mac}\necho done\necho\nsleep 99\n"
HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(THIRD)


def serve(stream: StreamSocket) -> None:
    """One request, one script."""

    def changed() -> None:
        request = bytearray(stream.available())
        stream.read_into(0, memoryview(request))
        if request.endswith(b"\r\n\r\n"):
            stream.discard(len(request))
            stream.offer(HEAD + THIRD if request.startswith(b"GET /third.ipxe HTTP/1.1\r\n") else b"HTTP/1.1 404 No\r\n\r\n")
            stream.finish()

    stream.on_change = changed
    changed()


def test_ipxe_boots(netemu_platform, tmp_path: Path):
    netemu_platform.require_part("guest", "ipxe", probe)
    (tmp_path / "first.ipxe").write_text(FIRST)
    (tmp_path / "second.ipxe").write_text("\n".join(SECOND))
    with Network(clock="real") as network, ExitStack() as machines:
        host = network.host
        assert isinstance(host, SimHost)
        host.add_address("198.51.100.7")
        host.dns_server({"boot.test": "198.51.100.7"})
        listener = machines.enter_context(host.tcp_listen("198.51.100.7", 80))
        listener.serve(serve)
        user = network.netdev(f"user,tftp={tmp_path},bootfile=first.ipxe,domainname=boot.test")
        network.link(network.hub().port(), user.port)
        running = {model: machines.enter_context(IpxeMachine(network, model, mac)) for model, mac in MACS.items()}
        for machine in running.values():
            network.link(machine.port, network.hub().port())
        for model, machine in running.items():
            said = machine.console("done", BOOTED)
            for line in (
                "lease 255.255.255.0 10.0.2.2 10.0.2.3 10.0.2.2 first.ipxe boot.test",
                f"the sum is {sum(ADDENDS)}",
                f"third {MACS[model]}",
            ):
                assert line in said.splitlines(), f"{model}, {line}:\n{said}"
        assert {str(lease.mac) for lease in user.leases if lease.state == "bound"} == set(MACS.values())
