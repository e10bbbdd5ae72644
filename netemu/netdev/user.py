"""`-netdev user`: the user-mode network of `netemu.user` as a netdev (net/slirp.c).

It has one port; a hub in between serves several guests. Its sockets are `host`'s, so the same network lives in memory and virtual
time, on the machine, or in a private namespace.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

from netemu.io.files import Folder
from netemu.io.host import Host
from netemu.net.engine import Pump
from netemu.net.loop import Loop
from netemu.net.port import Port
from netemu.net.sockets import StreamSocket
from netemu.netdev.protocol import BACKEND_CAPABILITIES, Forward
from netemu.user.flow import Flow, Refusal
from netemu.user.guest_forward import GuestForward
from netemu.user.leases import Lease
from netemu.user.network import UserNetwork
from netemu.user.options import UserOptions
from netemu.user.snapshot import Restored

if TYPE_CHECKING:
    from netemu.peers.smbd import Smbd

__all__ = ["UserNetdev"]


class UserNetdev:
    """A user-mode network on a port. `getrandbits(n)` gives n random bits.

    Raises `HostError` if the host does not give a port that is to be forwarded.
    """

    kind = "user"

    def __init__(self, loop: Loop, id: str, options: UserOptions, host: Host, getrandbits: Callable[[int], int]) -> None:  # noqa: A002 - QEMU's name
        self.id = id
        self.host = host
        self.options = options
        self.net = options.net
        self.gateway = options.host
        self.dns = options.dns
        self.dhcpstart = options.dhcpstart
        self.net6 = options.ipv6_net
        self.gateway6 = options.ipv6_host
        self.dns6 = options.ipv6_dns
        self.port = Port(loop, id)
        with ExitStack() as parts:
            folder = None if options.tftp is None else parts.enter_context(closing(Folder(options.tftp)))
            self.network = UserNetwork(options, host, getrandbits, folder)
            parts.callback(self.network.close)
            if options.smb is not None:
                parts.enter_context(closing(_share(self.network, options.smb)))
            self._parts = parts.pop_all()
        self._loop = loop
        self._pump = Pump(self.port, self.network)
        self.network.wakeup = self._pump.kick

    def __repr__(self) -> str:
        return f"<UserNetdev {self.id} {self.net}>"

    @property
    def capabilities(self) -> frozenset[str]:
        """Everything: this is what the list was made for."""
        return frozenset(BACKEND_CAPABILITIES)

    @property
    def forwards(self) -> tuple[Forward, ...]:
        """The forwarded ports, in the order in which they were added."""
        with self._loop:
            return self.network.forwards

    @property
    def leases(self) -> tuple[Lease[IPv4Address], ...]:
        """The DHCP server's records."""
        with self._loop:
            return self.network.leases

    @property
    def leases6(self) -> tuple[Lease[IPv6Address], ...]:
        """The DHCPv6 server's records."""
        with self._loop:
            return self.network.leases6

    @property
    def counters(self) -> Counter[str]:
        """What happened, by reason."""
        return self.network.counters

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """What the host refused, the last 64 cases, oldest first."""
        with self._loop:
            return self.network.refusals

    def flows(self) -> tuple[Flow, ...]:
        """Connections, mappings, ping sessions and questions, as they are now."""
        with self._loop:
            return self.network.flows()

    def add_hostfwd(self, rule: str) -> Forward:
        """Forward another port, in QEMU's grammar: `tcp:127.0.0.1:0-:80` (no host address is 127.0.0.1).

        Raises `LocalError` for a rule that is none, `HostError` for a port that the host does not give.
        """
        with self._loop:
            return self.network.add_forward(rule)

    def remove_hostfwd(self, forward: Forward) -> None:
        """Close the forward's listener; connections that came through it go on. Raises `LocalError` if it is not there."""
        with self._loop:
            self.network.remove_forward(forward)

    @property
    def guest_forwards(self) -> tuple[GuestForward, ...]:
        """The servers that guests find in their network."""
        with self._loop:
            return self.network.guest_forwards

    def add_guestfwd(self, rule: str, handler: Callable[[StreamSocket], None] | None = None) -> GuestForward:
        """Serve guests at an address of their network, in QEMU's grammar: `tcp:10.0.2.100:80-cmd:cat`.

        With a `handler` the rule has no target (`tcp:10.0.2.100:80`): each connection is given to it, and it must not block.
        Raises `LocalError` for a rule that is none, or an address that has another use.
        """
        with self._loop:
            return self.network.add_guest_forward(rule, handler)

    def remove_guestfwd(self, forward: GuestForward) -> None:
        """Serve there no more; connections that are open go on. Raises `LocalError` if it is not there."""
        with self._loop:
            self.network.remove_guest_forward(forward)

    def save_state(self) -> bytes:
        """What another `user` netdev with the same options needs to go on where this one is; this one only waits for `close` then.

        Guests notice nothing, nor do the peers of TCP connections if the host can move them (`Host.moves_streams`: a `SimHost`, or
        Linux with CAP_NET_ADMIN); others are reset. The host, which may be the other netdev's as well, must live until the state is
        loaded.
        """
        with self._loop:
            return self.network.save_state(self._loop.now())

    def load_state(self, state: bytes) -> Restored:
        """Go on where the netdev was that gave `state`: what moved, and what was lost and why. This one must be fresh.

        Raises `LocalError`, and changes nothing, for what is no state of a network with these options.
        """
        with self._loop:
            restored = self.network.load_state(state, self._loop.now())
            self._pump.kick()
        return restored

    def close(self) -> None:
        """Tell the guests, give back every socket, unplug the port, stop every timer."""
        self.network.leave(self._loop.now())
        self._pump.finish()
        self._parts.close()
        self.port.disconnect()


def _share(network: UserNetwork, directory: str) -> Smbd:
    """Have Samba share `directory` where guests look for an SMB server."""
    from netemu.peers.smbd import PORTS, Smbd

    smbd = Smbd(directory)
    for port in PORTS:
        network.add_guest_forward(f"tcp:{network.options.smb_address}:{port}-cmd:{smbd.command}")
    return smbd
