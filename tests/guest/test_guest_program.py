"""Programs that are guests: a stack that nobody here wrote (lwIP), and programs that misbehave."""

import errno
import shutil
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest

from netemu.errors import HostError, LocalError, PeerError
from netemu.guest.program import ProgramGuest
from netemu.net.faults import Fault
from netemu.network import Network

EXAMPLE = Path(__file__).parents[2] / "examples" / "lwip"
NEEDED = {"gcc": "gcc", "make": "make", "/usr/include/lwip/lwipopts.h": "liblwip-dev"}


def why_not() -> str | None:
    missing = [package for path, package in NEEDED.items() if not (shutil.which(path) or Path(path).exists())]
    return f"install the Debian packages {' '.join(missing)}" if missing else None


@pytest.fixture(scope="session")
def lwip(netemu_platform, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The command of the example's guest, built in a directory of this run."""
    netemu_platform.require_part("guest", "lwip", why_not)
    place = tmp_path_factory.mktemp("lwip")
    subprocess.run(["make", "-s", "-C", EXAMPLE, f"OUT={place}/lwip-guest"], check=True, capture_output=True, text=True)
    return f"{place}/lwip-guest {{channel}} {{mac}}"


@pytest.fixture(params=["virtual", "real"])
def network(request):
    with Network(request.param) as network:
        yield network


def guest_of(network, command, **options):
    guest = network.add_guest(partial(ProgramGuest, command=command), netdev=network.netdev("user"), **options)
    guest.configure("10.0.2.15", 24, "10.0.2.2")
    return guest


class TestLwip:
    def test_it_pings(self, network, lwip):
        guest = guest_of(network, lwip)
        assert guest.ping("10.0.2.2", count=3).ok

    def test_it_connects_and_octets_pass_both_ways(self, network, lwip):
        guest = guest_of(network, lwip)
        with network.host.tcp_listen("127.0.0.1", 8000) as listener:
            stream = guest.tcp_connect("10.0.2.2", 8000)
            peer = listener.accept()
            for size in (1, 50_000, 60_000):
                stream.send(bytes(size))
                assert peer.recv_exactly(size) == bytes(size)
                peer.send(b"x" * size)
                assert stream.recv_exactly(size) == b"x" * size
            stream.shutdown()
            assert peer.recv() == b""
            peer.send(b"still here")
            peer.close()
            assert stream.recv_all() == b"still here"
            stream.close()

    def test_it_serves(self, network, lwip):
        guest = network.add_guest(partial(ProgramGuest, command=lwip), netdev=network.netdev("user,hostfwd=tcp:127.0.0.1:0-:80"))
        guest.configure("10.0.2.15", 24, "10.0.2.2")
        listener = guest.tcp_listen(80)
        (forward,) = network.backends[0].forwards
        with network.host.tcp_connect(str(forward.host.address), forward.host.port) as client:
            served = listener.accept()
            client.send(b"GET")
            assert served.recv_exactly(3) == b"GET"
            served.abort()
            with pytest.raises(HostError) as caught:
                client.recv()
            assert caught.value.errno == errno.ECONNRESET

    def test_a_refusal_and_a_taken_port_have_their_errno(self, network, lwip):
        guest = guest_of(network, lwip)
        with pytest.raises(HostError) as caught:
            guest.tcp_connect("10.0.2.2", 81)
        assert caught.value.errno == errno.ECONNREFUSED
        with guest.udp(53), pytest.raises(HostError) as caught:
            guest.udp(53)
        assert caught.value.errno == errno.EADDRINUSE

    def test_datagrams_pass_both_ways(self, network, lwip):
        guest = guest_of(network, lwip)
        with network.host.udp("127.0.0.1") as server, guest.udp() as socket:
            socket.send_to(b"question", "10.0.2.2", server.port)
            data, source = server.recv()
            server.send_to(b"answer", source.address, source.port)
            assert (data, socket.recv().data) == (b"question", b"answer")

    def test_a_reader_who_is_slow_stops_the_sender(self, network, lwip):
        guest = guest_of(network, lwip)
        with network.host.tcp_listen("127.0.0.1", 8000) as listener:
            stream = guest.tcp_connect("10.0.2.2", 8000)
            peer = listener.accept()
            octets = bytes(range(256)) * 2000
            sender = threading.Thread(target=stream.send, args=(octets,)) if network.clock == "real" else None
            if sender:
                sender.start()
                assert peer.recv_exactly(len(octets)) == octets
                sender.join()
                return
            got = b""
            while octets[len(got) :]:
                stream.send(octets[len(got) : len(got) + 40_000])
                got += peer.recv_exactly(min(40_000, len(octets) - len(got)))
            assert got == octets

    def test_a_run_repeats(self, lwip):
        def run() -> str:
            with Network() as network:
                guest = guest_of(network, lwip)
                network.links[0].set_faults(forward=[Fault(number, "drop") for number in (3, 7, 8)])
                with network.host.tcp_listen("127.0.0.1", 8000) as listener:
                    stream = guest.tcp_connect("10.0.2.2", 8000)
                    peer = listener.accept()
                    stream.send(bytes(30_000))
                    assert peer.recv_exactly(30_000) == bytes(30_000)
                return network.frames.digest()

        assert len({run() for _ in range(3)}) == 1


# Programs that misbehave

GREETING = r"b'\0\0\0\x0b\x0c\0\0\0\0\0\0\0\0\0\0'"
WAIT_PAST = r"b'\0\0\0\r\x19\0\0\0\0' + bytes(8)"


def python(program: str) -> list[str]:
    code = f"import os, sys, time; fd = int(sys.argv[1]); {program}"
    return [sys.executable, "-c", code, "{channel}"]


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        ("sys.exit('no memory')", "closed its channel; it ended with status 1 and wrote 'no memory'"),
        ("os.read(fd, 99); os.kill(os.getpid(), 9)", "closed its channel; it ended with status -9"),
        ("os.write(fd, b'\\xff' * 99); time.sleep(99)", "said a message of 4294967295 octets"),
        ("os.write(fd, b'\\0\\0\\0\\5\\x63\\0\\0\\0\\0'); time.sleep(99)", "said message of kind 99"),
        (f"os.write(fd, {GREETING} + {WAIT_PAST}); time.sleep(99)", "said that it waits until 0, and it is "),
        ("time.sleep(99)", "did not end its turn within 1 s"),
        ("os.write(fd, b'\\0\\0\\1\\0'); time.sleep(99)", "did not end its turn within 1 s"),
    ],
)
def test_a_program_that_misbehaves_is_the_end_of_its_guest(network, program, sentence):
    guest = network.add_guest(partial(ProgramGuest, command=python(program), watchdog=1.0))
    with pytest.raises(PeerError) as caught:
        guest.ping("10.0.2.2")
    assert f"the program of guest guest0 {sentence}" in str(caught.value)
    with pytest.raises(HostError) as refused:
        guest.udp()
    assert refused.value.errno == errno.EHOSTDOWN


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("true", "command true: it has no {channel}, the number of the descriptor that it is to use"),
        ("true {channel} {pid}", "'pid' is no place in it; there are {channel}, {mac} and {name}"),
        ("nowhere/program {channel}", "there is no program nowhere/program; build it, or give its path"),
    ],
)
def test_a_wrong_command_is_one_sentence(command, sentence):
    with Network() as network, pytest.raises(LocalError) as caught:
        network.add_guest(partial(ProgramGuest, command=command))
    assert sentence in str(caught.value)


def test_what_the_channel_has_no_message_for_is_refused(lwip):
    with Network() as network:
        guest = guest_of(network, lwip)
        with pytest.raises(LocalError, match="cannot do 'dhcp4'"):
            guest.dhcp4()
        with pytest.raises(LocalError, match="give an IPv4 address and a prefix length of 0 to 32"):
            guest.configure("10.0.2.15", 33)
