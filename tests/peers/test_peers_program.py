"""Any program as a user-mode network: passt and slirp4netns over every wire they speak, and programs that misbehave."""

from __future__ import annotations

import os
import shutil
import sys
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from netemu import HostError, LocalError, Network, PeerError
from netemu.io.namespace import probe_namespace
from netemu.peers.command import Command
from netemu.peers.differing import UnsupportedOptionError
from netemu.peers.program_backend import SETTINGS, ProgramBackend
from netemu.user.options import UserOptions

PASST = "passt --foreground --interface {interface} --address {dhcpstart} --netmask {net.netmask} --gateway {host} --ipv4-only"
SLIRP = "slirp4netns --cidr {net}"
COMMANDS = {
    "passt-fd": f"{PASST} --fd {{fd}}",
    "passt-listen": f"{PASST} --one-off --socket {{listen}}",
    "slirp4netns-seqpacket": f"{SLIRP} --target-type=bess {{seqpacket}}",
    "slirp4netns-tap": f"{SLIRP} --netns-type=path /proc/thread-self/ns/net {{tap}}",
}


def why_not(*programs: str) -> str | None:
    missing = [program for program in programs if shutil.which(program) is None]
    namespace = probe_namespace()
    if missing:
        return f"install the Debian packages {' '.join(missing)}"
    return None if namespace.available else namespace.words


@pytest.fixture
def network():
    with Network(clock="real") as network:
        yield network


def backend(network: Network, command: str | list[str], *, patience: float = 10, **options: object) -> ProgramBackend:
    made = ProgramBackend(network.loop, "program0", UserOptions(**options), command, patience=patience)
    network.add_backend(made)
    return made


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", f"import os, socket, sys, time; {code}", *arguments]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_guest_lives_on_a_program_that_nobody_here_wrote(network, netemu_platform, name):
    netemu_platform.require_part("backend", name, lambda: why_not(name.partition("-")[0]))
    made = backend(network, COMMANDS[name])
    guest = network.guest(netdev=made)
    lease = guest.dhcp4()
    assert (lease.network, str(lease.router)) == (made.net, "10.0.2.2")
    with made.host.tcp_listen("192.0.2.1", 7) as listener:
        stream = guest.tcp_connect("192.0.2.1", 7)
        stream.send(b"up" * 50_000)
        served = listener.accept()
        assert served.recv_exactly(100_000) == b"up" * 50_000
        served.send(b"down" * 50_000)
        assert stream.recv_exactly(200_000) == b"down" * 50_000


def test_options_reach_it_through_places(network, netemu_platform):
    netemu_platform.require_part("backend", "passt", lambda: why_not("passt"))
    made = backend(network, COMMANDS["passt-fd"], net=IPv4Network("10.9.0.0/22"), dhcpstart=IPv4Address("10.9.1.77"))
    lease = network.guest(netdev=made).dhcp4()
    assert (str(lease.address), lease.prefix_length, str(lease.router)) == ("10.9.1.77", 22, "10.9.2.2")


def test_an_option_without_a_place_is_refused(network):
    with pytest.raises(UnsupportedOptionError, match="nothing for restrict, lease-time: leave that out"):
        backend(network, "cat {fd}", restrict=True, lease_time=60)


# When it is ready

READY = {
    "line": "print('loading'); print('now ready', flush=True)",
    "path": "open(sys.argv[2], 'w')",
    "unix": "listener = socket.socket(socket.AF_UNIX); listener.bind(sys.argv[2]); listener.listen()",
    "tcp": "listener = socket.create_server(('192.0.2.1', 8000))",
    "tcp6": "listener = socket.create_server(('::1', 8000), family=socket.AF_INET6)",
    "frame": "os.write(int(sys.argv[1]), bytes([0, 0, 0, 14]) + bytes(14))",
}
WAITS = {
    "line": "line:^now rea.y$",
    "path": "path:{}",
    "unix": "unix:{}",
    "tcp": "tcp:192.0.2.1:8000",
    "tcp6": "tcp:[::1]:8000",
    "frame": "frame",
}


@pytest.mark.parametrize("kind", READY)
def test_it_is_waited_for(network, netemu_platform, tmp_path: Path, kind):
    """It says that it is ready in its own time; the same program that never says so is not taken for ready."""
    netemu_platform.require_part("backend", "program", why_not)
    place = tmp_path / "ready"
    wait = f"wait={WAITS[kind].format(place)}"
    program = python(f"time.sleep(0.1); {READY[kind]}; time.sleep(60)", "{fd}", str(place))
    backend(network, [wait, *program])
    place.unlink(missing_ok=True)
    never = python("print('busy', flush=True); time.sleep(60)", "{fd}", str(place))
    with pytest.raises(HostError, match=r"start program program0 .* in time and wrote 'busy'"):
        backend(network, [wait, *never], patience=0.5)


@pytest.mark.parametrize("wait", ["line:", "line:(", "tcp:80", "tcp:127.0.0.1:x", "soon", "path:{nowhere}"])
def test_a_wait_that_says_nothing_is_refused(network, netemu_platform, wait):
    netemu_platform.require_part("backend", "program", why_not)
    with pytest.raises(LocalError, match=r"give line:REGEX|in the regular expression|is no place here"):
        backend(network, [f"wait={wait}", *python("pass", "{fd}")])


# Programs that misbehave

DEATHS = {
    "at once": ("print('no such option'); sys.exit(3)", HostError, "ended with status 3 and wrote 'no such option'"),
    "while it is waited for": ("time.sleep(0.1); sys.exit(4)", HostError, "ended with status 4"),
}


@pytest.mark.parametrize(("code", "error", "message"), DEATHS.values(), ids=DEATHS)
def test_a_start_that_fails_tells_what_it_wrote(network, netemu_platform, code, error, message):
    netemu_platform.require_part("backend", "program", why_not)
    with pytest.raises(error, match=message):
        backend(network, ["wait=line:ready", *python(code, "{fd}")])


ENDS = {
    "killed": ("{fd}", "time.sleep(60)", "ended with SIGKILL and wrote ''"),
    "killed-dgram": ("{dgram}", "time.sleep(60)", "ended with SIGKILL and wrote ''"),
    "hung up": (
        "{fd}",
        "os.close(int(sys.argv[1])); print('bye', flush=True); time.sleep(60)",
        "hung up; it ended with SIGTERM and wrote",
    ),
    "nonsense": ("{fd}", "os.write(int(sys.argv[1]), b'\\xff' * 8); time.sleep(60)", "hung up; it ended with SIGTERM"),
}


@pytest.mark.parametrize(("place", "code", "message"), ENDS.values(), ids=ENDS)
def test_an_end_is_an_event(network, netemu_platform, place, code, message):
    netemu_platform.require_part("backend", "program", why_not)
    made = backend(network, ["wait=line:ready", *python(f"print('ready', flush=True); {code}", place)])
    if "SIGKILL" in message:
        os.kill(made._program.pid, 9)
    with pytest.raises(PeerError, match=message.replace("''", "'ready'")):
        network.run_for(30)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("cat", r"it has no wire; give one of \{fd\}, \{dgram\}, "),
        ("cat {fd} {socket}", r"it has \{fd\} and \{socket\}; give one"),
        ("wait=frame", "there is no program in it"),
        ("speed=9 cat {fd}", "no such setting stands before a program here; there are wait, capabilities"),
        ("cat '{fd}", "No closing quotation; quote it as for a shell"),
        ("cat {fd", "write a brace that is no place twice"),
    ],
)
def test_a_command_that_says_too_little_or_too_much_is_refused(command, message):
    with pytest.raises(LocalError, match=message):
        Command.parse(command, SETTINGS)


def test_a_program_that_is_not_there_and_a_place_that_is_none_are_refused(network, netemu_platform):
    netemu_platform.require_part("backend", "program", why_not)
    with pytest.raises(LocalError, match=r"there is no program \./nowhere; build it, or give its path"):
        backend(network, "./nowhere {fd}")
    with pytest.raises(LocalError, match=r"'\{speed\}': 'speed' is no place here; there are \{net\}"):
        backend(network, "cat {fd} {speed}")


def test_it_needs_a_real_clock(netemu_platform):
    netemu_platform.require_part("backend", "program", why_not)
    with Network() as network, pytest.raises(LocalError, match='make it with clock="real"'):
        backend(network, "cat {fd}")


def test_forwards_are_its_commands_matter(network, netemu_platform):
    netemu_platform.require_part("backend", "program", why_not)
    made = backend(network, ["capabilities=arp,icmp.echo", *python("time.sleep(60)", "{dgram}")])
    assert (made.capabilities, made.forwards) == ({"arp", "icmp.echo"}, ())
    with pytest.raises(LocalError, match="write them into its command"):
        made.add_hostfwd("tcp:127.0.0.1:0-:80")


@pytest.mark.parametrize("place", ["{fd}", "{dgram}", "{socket}", "{seqpacket}", "{tap}"])
def test_nothing_is_left_behind(netemu_platform, tmp_path: Path, monkeypatch, place):
    """Neither of one that lived, nor of one that never took up its wire: descriptors, processes, files."""
    netemu_platform.require_part("backend", "program", why_not)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    lives = place in ("{fd}", "{dgram}")
    command = python("print(os.fork(), flush=True); time.sleep(60)", place)

    def one() -> None:
        with Network(clock="real") as network:
            if lives:
                backend(network, command)
            else:
                with pytest.raises(HostError, match="did not take up"):
                    backend(network, command, patience=0.3)

    one()
    before = len(os.listdir("/proc/self/fd"))
    one()
    assert len(os.listdir("/proc/self/fd")) == before
    assert list(tmp_path.iterdir()) == []
