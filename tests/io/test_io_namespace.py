from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from netemu.errors import HostError, LocalError
from netemu.io import inside as inside_module
from netemu.io import userns
from netemu.io.inside import ThreadInside
from netemu.io.namespace import Namespace, probe_namespace


def here():
    return os.readlink("/proc/thread-self/ns/net"), Path("/etc/resolv.conf").read_text()


def held_by_our_threads():
    """The network namespaces that threads of this process are in; other processes' may have got a number that is free again."""
    held = set()
    for task in os.listdir("/proc/self/task"):
        with suppress(OSError):  # it has ended meanwhile
            held.add(os.readlink(f"/proc/self/task/{task}/ns/net"))
    return held


def test_the_thread_is_inside_and_nobody_else(namespace):
    network, resolver = namespace.call(here)
    assert network != here()[0]
    assert resolver == ""
    assert os.readlink(f"/proc/self/fd/{namespace.fd}") == network
    assert namespace.call(lambda: namespace.call(here)) == (network, resolver)  # from inside, too


def test_only_lo_is_there_and_it_works(namespace):
    assert namespace.call(socket.if_nameindex) == [(1, "lo")]
    with namespace.call(socket.create_server, ("127.0.0.1", 0)) as server:
        namespace.call(socket.create_connection, server.getsockname(), 5).close()


def test_processes_started_inside_stay_inside(namespace):
    done = namespace.call(subprocess.run, ["readlink", "/proc/self/ns/net"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == namespace.call(here)[0]


def test_addresses_routes_and_bridges(namespace):
    namespace.add_address("192.0.2.1/32")
    namespace.add_address("192.0.2.1/32")
    namespace.add_bridge("br0")
    namespace.add_address("198.51.100.1/24", "br0")
    namespace.add_route("203.0.113.0/24", via="198.51.100.2")
    namespace.add_route("203.0.113.0/24", kind="unreachable")
    shown = namespace.call(subprocess.run, ["ip", "route", "show"], capture_output=True, text=True, check=True).stdout
    assert "unreachable 203.0.113.0/24" in shown
    assert "via 198.51.100.2" not in shown
    namespace.call(socket.create_server, ("192.0.2.1", 0)).close()


@pytest.mark.parametrize(
    ("misuse", "words"),
    [
        (lambda ns: ns.add_address("192.0.2"), r"write 192\.0\.2\.1/32"),
        (lambda ns: ns.add_address("192.0.2.1/32", "eth9"), "no interface 'eth9'"),
        (lambda ns: ns.add_route("192.0.2.1/24"), r"write 203\.0\.113\.0/24"),
        (lambda ns: ns.set_sysctl("kernel/hostname", "x"), "the machine's"),
    ],
)
def test_misuse_is_named(namespace, misuse, words):
    with pytest.raises(LocalError, match=words):
        misuse(namespace)


def test_what_the_kernel_refuses_is_a_host_error(namespace):
    with pytest.raises(HostError, match="add route"):
        namespace.add_route("203.0.113.0/24", via="198.51.100.2")
    with pytest.raises(HostError, match="write '1'"):
        namespace.set_sysctl("net/ipv4/no_such_thing", "1")


def test_sysctls_are_the_namespaces_own(namespace):
    path = Path("/proc/sys/net/ipv4/ping_group_range")
    outside = path.read_text()
    namespace.set_ping_group_range(100, 4242)
    assert namespace.call(path.read_text).split() == ["100", "4242"]
    assert path.read_text() == outside


def test_nameservers_are_the_namespaces_own(namespace):
    outside = here()[1]
    namespace.set_nameservers(["127.0.0.53", "192.0.2.53"])
    assert namespace.call(here)[1] == "nameserver 127.0.0.53\nnameserver 192.0.2.53\n"
    assert here()[1] == outside


def test_exceptions_come_out(namespace):
    with pytest.raises(ZeroDivisionError):
        namespace.call(lambda: 1 / 0)


def test_close_leaves_nothing_behind(namespace):
    before = set(threading.enumerate())
    other = Namespace("other")
    network = other.call(here)[0]
    other.close()
    other.close()
    assert set(threading.enumerate()) == before
    give_up = time.monotonic() + 10  # a joined thread has run its last line, and the kernel may still be burying it
    while network in held_by_our_threads() and time.monotonic() < give_up:
        os.sched_yield()
    assert network not in held_by_our_threads()
    with pytest.raises(LocalError, match="closed"):
        other.call(here)


def test_the_probe_says_yes_where_it_works(namespace):
    assert probe_namespace() == (True, "private network namespaces can be made")


def test_where_nothing_is_allowed_the_probe_says_what_is_missing(monkeypatch):
    """The thread gives up its capabilities before it tries, and user namespaces are forbidden."""
    enter = ThreadInside._enter

    def powerless(self):
        libc = inside_module.ctypes.CDLL(None, use_errno=True)
        header, data = (inside_module.ctypes.c_uint32 * 2)(0x20080522, 0), (inside_module.ctypes.c_uint32 * 6)()
        assert libc.capset(header, data) == 0  # of this thread only
        return enter(self)

    monkeypatch.setattr(ThreadInside, "_enter", powerless)
    monkeypatch.setattr(userns, "_UNSHARE", ("sh", "-c", "echo no such luck; exit 1"))
    available, words = probe_namespace()
    assert not available
    assert "needs CAP_SYS_ADMIN" in words
    assert "or start a process for 'probe' in a user namespace, where unshare said 'no such luck': EPERM" in words
