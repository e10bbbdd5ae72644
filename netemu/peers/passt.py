"""passt as a part: the user-mode network of libvirt and Podman, a program of its own at the other end of a stream socket.

passt is given one end of a socket pair (`--fd`) and speaks QEMU's stream protocol over it (`netemu.io.streamframes`). It lives in a
private namespace, so a guest's packets find the addresses the test put there and nothing else; the namespace has a link without
neighbours, for passt wants an interface to take as its template. Started by root it becomes `nobody` by itself.

passt lives in real time and waits on CLOCK_MONOTONIC: no virtual clock. It forwards the ports it was told of at its start and no
others. It asks for addresses once, too: the name server it forwards to is the one that `Host.dns_server` serves by default.

Its death is a `PeerError` out of the loop, with the last frame it was given and what it said.

Versions differ: `--help` is asked for the options. Not bound: vhost-user, name servers in IPv6, the control
socket for forwards (`--conf-path`).
"""

from __future__ import annotations

import errno
import re
import shutil
import socket
import subprocess
from contextlib import ExitStack
from functools import lru_cache
from typing import Final

from netemu.errors import HostError, LocalError, PeerError
from netemu.io.host import Host
from netemu.io.namespace import probe_namespace
from netemu.io.streamframes import StreamFrames
from netemu.io.watcher import DescriptorLoop, FdWatcher
from netemu.net.loop import Loop
from netemu.net.port import Port
from netemu.peers.differing import UnsupportedOptionError, refuse_options
from netemu.peers.outside import RESOLVER, TEMPLATE, open_outside
from netemu.peers.passt_process import PasstProcess
from netemu.peers.root import Peer, locate
from netemu.user.forward import Forward, Place, parse_forward
from netemu.user.options import UserOptions
from netemu.wire.address import Endpoint

__all__ = ["CAPABILITIES", "PasstBackend", "probe", "version"]

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
    }
)

_NOBODY: Final = 65534
_GUEST6: Final = 0x15  # the guest's place in its IPv6 network: as in IPv4, 10.0.2.15
_OPTION: Final = re.compile(r"(?<!\S)--[a-z0-9-]+")
_PATIENCE: Final = 10  # seconds of real time for a word about itself

# What of `-netdev user` it has no option for, in any version.
_FOREIGN: Final = (
    "restrict",
    "domainname",
    "tftp",
    "tftp_server_name",
    "bootfile",
    "static_lease",
    "ntp",
    "route",
    "dns_name",
    "lease_time",
)


def version(peer: Peer) -> str:
    """What it calls itself, such as 0.0~git20260728.f8df3f1; where it does not know, what its package is called."""
    line = next((line[6:] for line in _run(peer, "--version").splitlines() if line.startswith("passt ")), "unknown version")
    if line.startswith("unknown") and shutil.which("dpkg-query"):
        query = ["dpkg-query", "--show", "--showformat=${Version}", peer.package]
        return subprocess.run(query, capture_output=True, text=True, check=False).stdout or line
    return line


def probe(name: str = "passt") -> str | None:
    """Why this passt cannot run here, or None."""
    reason = locate(name).missing()
    if reason:
        return reason
    namespace = probe_namespace()
    return None if namespace.available else namespace.words


@lru_cache
def _options(peer: Peer) -> frozenset[str]:
    return frozenset(_OPTION.findall(_run(peer, "--help")))


def _run(peer: Peer, option: str) -> str:
    """What it says, on whichever output: versions differ."""
    run = subprocess.run([*peer.command(), option], capture_output=True, text=True, timeout=_PATIENCE, check=False)
    return run.stdout + run.stderr


class PasstBackend:
    """A user-mode network that is passt. `host` is where its sockets land: a namespace of its own.

    `name` says which passt (`netemu.peers.root`). Options of `-netdev user` that it has
    nothing for are refused: `UnsupportedOptionError`.
    """

    kind = "passt"
    capabilities = CAPABILITIES

    def __init__(self, loop: Loop, id: str, options: UserOptions, name: str = "passt") -> None:  # noqa: A002 - QEMU's name
        if not isinstance(loop, DescriptorLoop):
            raise LocalError('passt lives in real time, and this network does not: make it with clock="real"')
        self._peer = locate(name)
        self.id = id
        self.version = version(self._peer)
        self.net, self.gateway, self.dns, self.dhcpstart = options.net, options.host, options.dns, options.dhcpstart
        self.net6, self.gateway6, self.dns6 = options.ipv6_net, options.ipv6_host, options.ipv6_dns
        self._places = {4: Place(self.net, self.dhcpstart), 6: Place(self.net6, self.net6[_GUEST6])}
        arguments = self._arguments(options)
        with ExitStack() as made:
            host = open_outside(made, loop, id, (_NOBODY, _NOBODY))
            host.groups = (_NOBODY,)
            self.host: Host = host
            self._namespace = host.namespace
            self.forwards = tuple(map(self._choose_port, options.hostfwd))
            ours, theirs = map(made.enter_context, socket.socketpair())
            ours.setblocking(False)
            command = [*self._peer.command(), *arguments, *_rules(self.forwards), f"--fd={theirs.fileno()}"]
            self._process = PasstProcess(self._namespace, command, theirs.fileno())
            theirs.close()
            made.callback(self._process.close)
            made.callback(ours.close)  # which ends it
            self.port = Port(loop, id)
            made.callback(self.port.disconnect)
            watcher = FdWatcher(loop)
            made.callback(watcher.close)
            self._frames = StreamFrames(watcher, ours, self.port, self._gone)
            made.callback(self._frames.close)
            self._made = made.pop_all()

    def _arguments(self, options: UserOptions) -> list[str]:
        defaults = UserOptions()
        refuse_options(_FOREIGN, options, "passt")
        known = _options(self._peer)
        wanted: dict[str, object] = {
            "--foreground": True,
            "--ipv4-only": not options.ipv6,
            "--ipv6-only": not options.ipv4,
            "--no-dhcp": options.disable_dhcp,
            "--no-map-gw": options.disable_host_loopback,
            "--interface": TEMPLATE,
            "--address": [options.dhcpstart] * options.ipv4 + [self.net6[_GUEST6]] * options.ipv6,
            "--netmask": options.net.prefixlen,
            "--gateway": [options.host] * options.ipv4 + [options.ipv6_host] * options.ipv6,
            "--mtu": options.mtu,
            "--hostname": options.hostname,
            "--search": " ".join(options.dnssearch),
            "--outbound": options.outbound_addr if options.outbound_addr != defaults.outbound_addr else None,
        }
        if not options.disable_dns:
            wanted["--dns-forward"] = options.dns
            if "--dns-host" in known:  # without it, --dns would leave nobody to forward to
                wanted |= {"--dns-host": RESOLVER, "--dns": options.dns}
        unknown = [option for option, value in wanted.items() if value and option not in known]
        if unknown:
            raise UnsupportedOptionError(
                f"{self._peer} {self.version} has no {', '.join(unknown)}: leave that out, or take a newer one"
            )
        return [argument for option, value in wanted.items() for argument in _words(option, value)]

    def _choose_port(self, rule: str) -> Forward:
        """The forward that `rule` asks for. There is no port 0, so a free one is chosen; nobody else is inside to take it."""
        asked = parse_forward(rule, self._places)
        if asked.path is not None or asked.count > 1:
            raise LocalError(f"hostfwd={rule}: passt forwards no UNIX sockets, and no ranges here; give a TCP or UDP port")
        if asked.guest.address not in (self.dhcpstart, self.net6[_GUEST6]):
            raise LocalError(f"hostfwd={rule}: passt forwards to its one guest, {self.dhcpstart}, so leave the guest's address out")
        if asked.host.port:
            return asked
        kind = socket.SOCK_STREAM if asked.protocol == "tcp" else socket.SOCK_DGRAM
        family = socket.AF_INET if asked.host.address.version == 4 else socket.AF_INET6
        with self._namespace.call(socket.socket, family, kind) as sock:
            try:
                sock.bind((str(asked.host.address), 0))
            except OSError as error:
                raise HostError(error.errno or errno.EIO, f"hostfwd {rule}") from None
            return Forward(asked.protocol, Endpoint(asked.host.address, sock.getsockname()[1]), asked.guest)

    def _gone(self, _error: int) -> None:
        self._process.close()
        frame = self._frames.last
        cause = f"after a frame of {len(frame)} octets: {frame.hex()}" if frame else "before it was given any frame"
        raise PeerError(f"{self._peer} {self.version} {self._process.fate}, {cause}")

    def add_hostfwd(self, rule: str) -> Forward:
        """Never: passt is told of its forwards when it starts."""
        raise LocalError(f"hostfwd={rule}: passt forwards only the ports it is started with, so give hostfwd= to the backend")

    def remove_hostfwd(self, forward: Forward) -> None:
        """Never: see `add_hostfwd`."""
        raise LocalError(f"{forward}: passt keeps the forwards it is started with")

    def close(self) -> None:
        """End the process, and with it its sockets, its host and its namespace."""
        self._made.close()


def _words(option: str, value: object) -> list[str]:
    """The arguments that say so: none for nothing, one for each of a list."""
    if value is True:
        return [option]
    values = value if isinstance(value, list) else [value] if value else []
    return [f"{option}={each}" for each in values]


def _rules(forwards: tuple[Forward, ...]) -> list[str]:
    """Its forwards; without one of a protocol it is told so, for versions differ in what they forward then."""
    rules: dict[str, list[str]] = {"tcp": [], "udp": []}
    for forward in forwards:
        rules[forward.protocol].append(f"{forward.host.address}/{forward.host.port}:{forward.guest.port}")
    return [f"--{protocol}-ports={rule}" for protocol, asked in rules.items() for rule in asked or ["none"]]
