"""Programs as guests without verbs: a machine of QEMU's over each of its transports, and what a guest without verbs says."""

from __future__ import annotations

import os
import shutil
import sys
from functools import partial
from pathlib import Path

import pytest

from netemu.errors import LocalError, PeerError
from netemu.guest.exec import ExecGuest
from netemu.io.namespace import probe_namespace
from netemu.network import Network

MAC = "52:54:00:12:34:99"
ADDRESS = "10.0.2.77"
QEMU = (
    f"address={ADDRESS} qemu-system-x86_64 -nodefaults -no-user-config -accel tcg -machine pc,graphics=off -m 64 -display none "
    "-boot order=n -device virtio-net-pci,netdev=n,mac={mac} -netdev "
)
NETDEVS = {
    "socket": "stream,id=n,server=off,addr.type=unix,addr.path={socket}",
    "dgram": "dgram,id=n,local.type=fd,local.str={dgram}",
    "tap": "tap,id=n,ifname={tap},script=no,downscript=no",
}
ATTEMPTS = 60  # of a second each, until iPXE is there


def why_not() -> str | None:
    if shutil.which("qemu-system-x86_64") is None or not Path("/usr/lib/ipxe/qemu").is_dir():
        return "install the Debian packages qemu-system-x86 and ipxe-qemu"
    namespace = probe_namespace()
    return None if namespace.available else namespace.words


@pytest.fixture
def network():
    with Network(clock="real") as network:
        yield network


def guest_of(network, command, **options):
    return network.add_guest(partial(ExecGuest, command=command), **options)


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", f"import os, socket, sys, time; {code}", *arguments]


@pytest.mark.parametrize("wire", NETDEVS)
def test_a_machine_of_qemus_lives_on_our_network(network, netemu_platform, tmp_path: Path, wire):
    """iPXE on its card takes the lease that is kept for it, and answers pings from outside."""
    netemu_platform.require_part("guest", "qemu-ipxe", why_not)
    (tmp_path / "stay.ipxe").write_text("#!ipxe\nsleep 600\n")
    user = network.netdev(f"user,tftp={tmp_path},bootfile=stay.ipxe,static-lease={MAC}={ADDRESS}")
    hub = network.hub()
    network.link(user.port, hub.port())
    witness = network.guest(netdev=hub)
    witness.dhcp4()
    guest = guest_of(network, QEMU + NETDEVS[wire], netdev=hub, mac=MAC)
    guest.configure(ADDRESS, 24)
    assert any(witness.ping(guest.address, timeout=1).ok for _ in range(ATTEMPTS))


def test_it_has_no_verbs_and_says_so(network):
    guest = guest_of(network, python("time.sleep(60)", "{fd}"), name="mute")
    assert (guest.kind, guest.capabilities, guest.address) == ("exec", frozenset(), None)
    verbs = [
        guest.dhcp4,
        lambda: guest.ping("10.0.2.2"),
        lambda: guest.resolve("name.test"),
        lambda: guest.tcp_connect("10.0.2.2", 80),
        lambda: guest.tcp_listen(80),
        guest.udp,
        lambda: guest.run("true"),
    ]
    for verb in verbs:
        with pytest.raises(LocalError, match=r"guest mute \(exec\) cannot do"):
            verb()
    with pytest.raises(LocalError, match="its address is None, and nobody can tell it another; say address="):
        guest.configure("10.0.2.15", 24)


def test_it_says_what_it_hears(network):
    """Frames pass as they are, both ways: an echo of Ethernet, in a line of Python."""
    echo = "s = socket.socket(fileno=int(sys.argv[1]))\nwhile True: s.send(s.recv(2000))"
    guest = guest_of(network, python(echo, "{dgram}"))
    tester = network.guest(netdev=guest.port)
    for length in (14, 60, 1514):
        frame = bytes(tester.mac) * 2 + b"\x88\xb5" + bytes(length - 14)
        tester.send_frame(frame)
        assert tester.expect_frame(lambda seen: seen[12:14] == b"\x88\xb5") == frame


def test_its_end_is_an_event(network):
    guest = guest_of(network, ["wait=line:up", *python("print('up', flush=True); time.sleep(60)", "{dgram}")], name="short")
    os.kill(guest._program.pid, 9)
    with pytest.raises(PeerError, match=r"guest short \(.*\) ended with SIGKILL and wrote 'up'"):
        network.run_for(30)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("./mystack {mac}", "it has no wire; give one of"),
        ("capabilities=ping ./mystack {fd}", "no such setting stands before a program here; there are wait, address"),
        ("address=here ./mystack {fd}", "address=here: .* give an IPv4 address"),
        ("./mystack {fd} {net}", r"'\{net\}': 'net' is no place here; there are \{mac\}, \{name\}, \{fd\}"),
    ],
)
def test_a_command_that_cannot_be_is_refused(network, command, message):
    with pytest.raises(LocalError, match=message):
        guest_of(network, command)
