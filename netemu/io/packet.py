"""A TAP for another program: the program opens it by name, and we are at the interface's other side with a packet socket.

The device lives as long as its namespace (TUNSETPERSIST). It has no addresses and no IPv6, so the kernel says nothing on it and
answers nothing: what passes is what the program writes to the device and what is written to the socket.

Follows Documentation/networking/tuntap.rst and packet(7). Not carried: VLAN tags, which the kernel takes off before a packet
socket sees the frame; frames longer than the interface's MTU.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from typing import Final

from netemu.errors import HostError
from netemu.io.namespace import Namespace

__all__ = ["has_carrier", "make_persistent_tap", "open_packet"]

_TUNSETIFF: Final = 0x400454CA  # linux/if_tun.h
_TUNSETPERSIST: Final = 0x400454CB
_IFF_TAP: Final = 0x0002
_IFF_NO_PI: Final = 0x1000
_SIOCGIFFLAGS: Final = 0x8913  # linux/sockios.h
_IFF_RUNNING: Final = 0x40  # linux/if.h
_IFREQ: Final = struct.Struct("16sH22x")  # struct ifreq: name, flags
_ETH_P_ALL: Final = 3  # linux/if_ether.h
_SOL_PACKET: Final = 263
_PACKET_IGNORE_OUTGOING: Final = 23  # linux/if_packet.h


def make_persistent_tap(namespace: Namespace, interface: str) -> None:
    """Make TAP `interface` in `namespace`, up and silent. Raises `HostError`."""
    namespace.call(_make, interface)
    namespace.set_sysctl(f"net/ipv6/conf/{interface}/disable_ipv6", "1")
    namespace.set_link_up(interface)


def open_packet(namespace: Namespace, interface: str) -> socket.socket:
    """A non-blocking socket that reads what comes in at `interface` and writes what goes out there, one frame a message."""
    sock = namespace.call(socket.socket, socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    sock.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    sock.bind((interface, _ETH_P_ALL))
    return sock


def has_carrier(sock: socket.socket, interface: str) -> bool:
    """Whether a program has opened the TAP."""
    _, flags = _IFREQ.unpack(fcntl.ioctl(sock, _SIOCGIFFLAGS, _IFREQ.pack(interface.encode(), 0)))
    return bool(flags & _IFF_RUNNING)


def _make(interface: str) -> None:
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise HostError(error.errno or errno.EIO, "open /dev/net/tun") from None
    try:
        fcntl.ioctl(fd, _TUNSETIFF, _IFREQ.pack(interface.encode(), _IFF_TAP | _IFF_NO_PI))
        fcntl.ioctl(fd, _TUNSETPERSIST, 1)
    except OSError as error:
        raise HostError(error.errno or errno.EIO, f"make TAP interface {interface!r}") from None
    finally:
        os.close(fd)
