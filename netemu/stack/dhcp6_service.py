"""Runs a DHCPv6 client on a host: its messages become datagrams, its leases addresses.

A part of `dual.DualStack`, which lets it work in each `transmit`. The client speaks from the link-local address, through an
ordinary UDP socket on port 546, so it waits until that address is no longer tentative. An address that somebody has (RFC 4862
5.4) is declined.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from netemu.errors import HostError
from netemu.stack.addresses6 import AddressState
from netemu.stack.dhcp6_client import Bound6, Dhcp6Client, Lost6, SendDhcp6
from netemu.stack.node6 import Node6
from netemu.stack.udp import UdpLayer
from netemu.wire.address import Endpoint, MacAddress
from netemu.wire.dhcpv6 import ALL_RELAY_AGENTS_AND_SERVERS, CLIENT_PORT, SERVER_PORT

__all__ = ["Dhcp6Service"]

_SERVERS: Final = Endpoint(ALL_RELAY_AGENTS_AND_SERVERS, SERVER_PORT)
_HOST_LENGTH: Final = 128  # an address says nothing of what is on the link (RFC 8415 18.2.10.1)
_ORIGIN: Final = "dhcp6"


class Dhcp6Service:
    """A client and the addresses it brought. `begin` its `start` or `inform`, release through `client`, then wake the stack.

    `HostError` EADDRINUSE when an application has port 546.
    """

    def __init__(self, node: Node6, udp: UdpLayer, mac: MacAddress, getrandbits: Callable[[int], int]) -> None:
        self.client = Dhcp6Client(mac, getrandbits)
        self._node = node
        self._received: deque[bytes] = deque(maxlen=64)
        self._socket = udp.open(CLIENT_PORT)
        self._socket.on_datagram = lambda payload, _source: self._received.append(payload)
        self._waiting: Callable[[int], None] | None = None

    def begin(self, how: Callable[[int], None], now: int) -> None:
        """Call `how` with the time as soon as our link-local address is one: a message is sent when its timers begin."""
        if self._node.addresses.is_usable(self._node.link_local):
            how(now)
        else:
            self._waiting = how

    def work(self, now: int) -> None:
        """Do what the client wants done, once our link-local address is one."""
        node, client = self._node, self.client
        while self._received:
            client.receive(self._received.popleft(), now)
        entries = [entry for entry in node.addresses.addresses if entry.origin == _ORIGIN]
        if any(entry.state is AddressState.DUPLICATE for entry in entries):
            client.declined(now)
        if not node.addresses.is_usable(node.link_local):
            return
        if self._waiting is not None:
            begin, self._waiting = self._waiting, None
            begin(now)
        for event in client.events():
            match event:
                case SendDhcp6(message):
                    self._send(message.pack())
                case Bound6(lease):
                    for each in lease.addresses:
                        node.add(each.address, _HOST_LENGTH, _ORIGIN, now, each.preferred_lifetime, each.valid_lifetime)
                case Lost6():
                    for entry in entries:
                        if node.addresses.get(entry.address) is entry:
                            node.addresses.remove(entry)

    def _send(self, payload: bytes) -> None:
        try:
            self._socket.send_to(payload, _SERVERS)
        except HostError:
            self.client.counters["dhcp6-not-sent"] += 1

    def deadline(self) -> int | None:
        return self.client.deadline()

    def expire(self, now: int) -> None:
        """Run the timers that are due; `work` follows."""
        self.client.expire(now)

    def close(self) -> None:
        """Free the port. The addresses stay until their lifetimes end."""
        self._socket.close()
