"""libslirp as a part: the C user-mode network of QEMU, driven from Python in the network's own clock.

libslirp is a library: it is given frames, gives frames, asks for the time and says which descriptors it waits for. So it can
live in virtual time; only the sockets behind it are real. It runs in a process of its own (`libslirp_child`), because it is C code
that is given hostile frames and must be able to crash, and that process lives in a private namespace: a guest's packets find the
addresses the test put there and nothing else. The resolver file it reads is the namespace's too.

One of its habits shapes this file: a poll runs at most one slow tick (499 ms) however far the clock has jumped, so time is given
to it in steps no longer than that while it has something to wait for.

A crash is a `PeerError` out of the loop, at the frame that caused it. Not bound: IPv6, TFTP, guestfwd, migration.
"""

from __future__ import annotations

import errno
import json
import signal
import socket
import subprocess
import sys
from collections import Counter
from typing import Final

from netemu.errors import HostError, LocalError, PeerError
from netemu.io.host import Host
from netemu.io.namespace import Namespace, probe_namespace
from netemu.io.oshost import NetnsHost
from netemu.io.watcher import READABLE, FdWatcher
from netemu.net.clock import MILLISECOND
from netemu.net.loop import Loop, Timer
from netemu.net.port import Frame, Port
from netemu.peers import libslirp_abi as abi
from netemu.peers.libslirp_child import ADD_FORWARD, FRAME, HEADER, IDLE, LARGEST, NEW, NOBODY, REMOVE_FORWARD, TURN
from netemu.user.forward import Forward, Place, parse_forward
from netemu.user.options import UserOptions
from netemu.wire.address import Endpoint
from netemu.wire.vnet_hdr import VnetHeader

__all__ = ["CAPABILITIES", "LibslirpBackend", "probe", "version"]

CAPABILITIES: Final = frozenset(
    {
        "arp",
        "dhcp4.server",
        "dhcp6.server",
        "dns.forward",
        "icmp.echo",
        "icmp.forward",
        "ipv6",
        "nat.tcp",
        "nat.udp",
        "hostfwd.tcp",
        "hostfwd.udp",
        "hostfwd.runtime",
        "restrict",
        "tftp.server",
        "virtual-clock",
    }
)

_STEP: Final = 499  # ms: its slow tick; a longer step of the clock loses ticks
_LAST_WORDS: Final = 5  # seconds of real time for a process that has been told to end


def version() -> str:
    """The library's version, such as 4.7.0; `OSError` where it is not installed."""
    return abi.version(abi.load())


def probe() -> str | None:
    """Why libslirp cannot run here, or None."""
    try:
        version()
    except OSError:
        return f"{abi.SONAME} is not installed (Debian: apt-get install libslirp0)"
    namespace = probe_namespace()
    return None if namespace.available else namespace.words


class LibslirpBackend:
    """A user-mode network that is libslirp. `host` is where its sockets land: a namespace of its own.

    `options` are those of `-netdev user`; `lease_time` and `dnssearch` are not libslirp's to change and are left alone.
    """

    kind = "libslirp"
    capabilities = CAPABILITIES

    def __init__(self, loop: Loop, id: str, options: UserOptions) -> None:  # noqa: A002 - QEMU's name
        self.id = id
        self.version = version()
        self.net, self.gateway, self.dns, self.dhcpstart = options.net, options.host, options.dns, options.dhcpstart
        self.net6, self.gateway6, self.dns6 = options.ipv6_net, options.ipv6_host, options.ipv6_dns
        self.forwards: tuple[Forward, ...] = ()
        self.counters: Counter[str] = Counter()
        self._loop = loop
        self._namespace = Namespace(id)
        host = NetnsHost(loop, self._namespace)
        host.groups = (NOBODY,)
        self.host: Host = host
        self.port = Port(loop, id, self._receive)
        self._timer: Timer | None = None
        self._watcher = FdWatcher(loop)
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-m", "netemu.peers.libslirp_child", str(theirs.fileno())]
            self._process = self._namespace.start(subprocess.Popen, command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
        _, (self._ready,), _, _ = socket.recv_fds(self._control, HEADER.size, 1)
        self._watcher.watch(self._ready, READABLE, lambda _events: self._turn())
        if not self._ask(NEW, _settings(options)):
            self.close()
            raise LocalError(f"libslirp {self.version} refused {options!r}; its reason is on standard error")
        for rule in options.hostfwd:
            self.add_hostfwd(rule)

    def _receive(self, frame: Frame, header: VnetHeader | None) -> bool:  # noqa: ARG002 - libslirp has no offloads
        self._request(FRAME, frame)
        return True

    def _turn(self) -> None:
        self._request(TURN)

    def _ask(self, operation: int, settings: dict[str, object]) -> int:
        return self._request(operation, json.dumps(settings).encode())

    def _request(self, operation: int, body: bytes = b"") -> int:
        """Have it done, send the frames that come out, and remember when the next turn is due."""
        try:
            self._control.send(HEADER.pack(operation, self._loop.now()) + body)
            while (message := self._control.recv(LARGEST)) and message[0] == FRAME:
                self.port.send(message[HEADER.size :])
        except OSError:
            message = b""
        if not message:
            raise self._obituary(operation, body)
        answer = json.loads(message[HEADER.size :])
        self.counters.update(answer["errors"])
        if operation != TURN:  # it was given something, and may have given the kernel something that comes back
            self._watcher.expect()
        self._rest(answer["timeout"])
        return int(answer["result"] or 0)

    def _rest(self, timeout: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        due = self._loop.now() + min(timeout, _STEP) * MILLISECOND
        self._timer = self._loop.call_at(due, self._turn) if timeout < IDLE else None

    def _obituary(self, operation: int, body: bytes) -> PeerError:
        status = self._process.wait(_LAST_WORDS)
        how = signal.Signals(-status).name if status < 0 else f"status {status}"
        cause = f"after a frame of {len(body)} octets: {body.hex()}" if operation == FRAME else "by itself"
        return PeerError(f"libslirp {self.version} died with {how} {cause}")

    def add_hostfwd(self, rule: str) -> Forward:
        """Forward a host port: QEMU's grammar, with 127.0.0.1 for no host address."""
        asked = parse_forward(rule, {4: Place(self.net, self.dhcpstart)})
        if asked.path is not None or asked.count > 1:
            raise LocalError(f"hostfwd={rule}: libslirp is given no UNIX sockets and no ranges here; give a TCP or UDP port")
        with self._loop:
            port = self._ask(ADD_FORWARD, _rule(asked))
        if port <= 0:
            raise HostError(-port or errno.EADDRINUSE, f"hostfwd {rule}")
        forward = Forward(asked.protocol, Endpoint(asked.host.address, port), asked.guest)
        self.forwards = (*self.forwards, forward)
        return forward

    def remove_hostfwd(self, forward: Forward) -> None:
        """Stop listening; connections that are open stay."""
        if forward not in self.forwards:
            raise LocalError(f"{forward} is not forwarded here: {', '.join(map(str, self.forwards)) or 'nothing is'}")
        with self._loop:
            self._ask(REMOVE_FORWARD, _rule(forward))
        self.forwards = tuple(other for other in self.forwards if other != forward)

    def close(self) -> None:
        """End the process, and with it its sockets, its host and its namespace."""
        if self._timer is not None:
            self._timer.cancel()
        self._watcher.close()
        self._control.close()
        socket.close(self._ready)
        try:
            self._process.wait(_LAST_WORDS)
        except subprocess.TimeoutExpired:  # stuck inside the library
            self._process.kill()
            self._process.wait()
        self.port.disconnect()
        self.host.close()
        self._namespace.close()


def _settings(options: UserOptions) -> dict[str, object]:
    return {
        "in_enabled": options.ipv4,
        "in6_enabled": options.ipv6,
        "vprefix_addr6": str(options.ipv6_net.network_address),
        "vprefix_len": options.ipv6_net.prefixlen,
        "vhost6": str(options.ipv6_host),
        "vnameserver6": str(options.ipv6_dns),
        "vnetwork": str(options.net.network_address),
        "vnetmask": str(options.net.netmask),
        "vhost": str(options.host),
        "vdhcp_start": str(options.dhcpstart),
        "vnameserver": str(options.dns),
        "vhostname": options.hostname,
        "vdomainname": options.domainname,
        "tftp_server_name": options.tftp_server_name,
        "tftp_path": options.tftp,
        "bootfile": options.bootfile,
        "restricted": options.restrict,
        "if_mtu": options.mtu,
    }


def _rule(forward: Forward) -> dict[str, object]:
    return {
        "udp": forward.protocol == "udp",
        "host": str(forward.host.address),
        "host_port": forward.host.port,
        "guest": str(forward.guest.address),
        "guest_port": forward.guest.port,
    }
