"""libslirp's C interface, as ctypes sees it.

Layouts are those of libslirp.h (4.1 to 4.9, BSD-3-Clause) on LP64 machines; what each version added is beside the field. A library
reads only the fields that `SlirpConfig.version` promises, and refuses a version newer than itself, so the version is chosen from
`slirp_version_string()`.
"""

from __future__ import annotations

import ctypes
from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_bool,
    c_char_p,
    c_int,
    c_int64,
    c_size_t,
    c_ssize_t,
    c_uint8,
    c_uint32,
    c_void_p,
)

__all__ = [
    "ADD_POLL",
    "GET_REVENTS",
    "POLL_ERR",
    "POLL_HUP",
    "POLL_IN",
    "POLL_OUT",
    "POLL_PRI",
    "SONAME",
    "InAddr",
    "SlirpCb",
    "SlirpConfig",
    "config_version",
    "connection_info",
    "load",
    "version",
]

SONAME = "libslirp.so.0"

POLL_IN, POLL_OUT, POLL_PRI, POLL_ERR, POLL_HUP = 1, 2, 4, 8, 16  # enum SLIRP_POLL_*


class In6Addr(Structure):
    """`struct in6_addr`: C aligns it to four octets, so it is made of words here."""

    _fields_ = [("words", c_uint32 * 4)]


class InAddr(Structure):
    """`struct in_addr`: a word in network order, passed by value."""

    _fields_ = [("word", c_uint32)]


class SlirpConfig(Structure):
    """`SlirpConfig` up to version 4 (libslirp 4.7)."""

    _fields_ = [
        ("version", c_uint32),
        ("restricted", c_int),
        ("in_enabled", c_bool),
        ("vnetwork", InAddr),
        ("vnetmask", InAddr),
        ("vhost", InAddr),
        ("in6_enabled", c_bool),
        ("vprefix_addr6", In6Addr),
        ("vprefix_len", c_uint8),
        ("vhost6", In6Addr),
        ("vhostname", c_char_p),
        ("tftp_server_name", c_char_p),
        ("tftp_path", c_char_p),
        ("bootfile", c_char_p),
        ("vdhcp_start", InAddr),
        ("vnameserver", InAddr),
        ("vnameserver6", In6Addr),
        ("vdnssearch", POINTER(c_char_p)),
        ("vdomainname", c_char_p),
        ("if_mtu", c_size_t),
        ("if_mru", c_size_t),
        ("disable_host_loopback", c_bool),
        ("enable_emu", c_bool),
        ("outbound_addr", c_void_p),  # version 2, libslirp 4.2
        ("outbound_addr6", c_void_p),
        ("disable_dns", c_bool),  # version 3, libslirp 4.3
        ("disable_dhcp", c_bool),  # version 4, libslirp 4.7
    ]


SEND_PACKET = CFUNCTYPE(c_ssize_t, c_void_p, c_size_t, c_void_p)
GUEST_ERROR = CFUNCTYPE(None, c_char_p, c_void_p)
CLOCK_GET_NS = CFUNCTYPE(c_int64, c_void_p)
TIMER_NEW = CFUNCTYPE(c_void_p, c_void_p, c_void_p, c_void_p)
TIMER_FREE = CFUNCTYPE(None, c_void_p, c_void_p)
TIMER_MOD = CFUNCTYPE(None, c_void_p, c_int64, c_void_p)
POLL_FD = CFUNCTYPE(None, c_int, c_void_p)
NOTIFY = CFUNCTYPE(None, c_void_p)
INIT_COMPLETED = CFUNCTYPE(None, c_void_p, c_void_p)
TIMER_NEW_OPAQUE = CFUNCTYPE(c_void_p, c_int, c_void_p, c_void_p)
ADD_POLL = CFUNCTYPE(c_int, c_int, c_int, c_void_p)
GET_REVENTS = CFUNCTYPE(c_int, c_int, c_void_p)


class SlirpCb(Structure):
    """`SlirpCb` up to version 4. libslirp keeps the pointer: the structure must outlive the instance."""

    _fields_ = [
        ("send_packet", SEND_PACKET),
        ("guest_error", GUEST_ERROR),
        ("clock_get_ns", CLOCK_GET_NS),
        ("timer_new", TIMER_NEW),
        ("timer_free", TIMER_FREE),
        ("timer_mod", TIMER_MOD),
        ("register_poll_fd", POLL_FD),
        ("unregister_poll_fd", POLL_FD),
        ("notify", NOTIFY),
        ("init_completed", INIT_COMPLETED),
        ("timer_new_opaque", TIMER_NEW_OPAQUE),
    ]


_PROTOTYPES: dict[str, tuple[object, list[object]]] = {
    "slirp_version_string": (c_char_p, []),
    "slirp_new": (c_void_p, [POINTER(SlirpConfig), POINTER(SlirpCb), c_void_p]),
    "slirp_cleanup": (None, [c_void_p]),
    "slirp_input": (None, [c_void_p, c_char_p, c_int]),
    "slirp_pollfds_fill": (None, [c_void_p, POINTER(c_uint32), ADD_POLL, c_void_p]),
    "slirp_pollfds_poll": (None, [c_void_p, c_int, GET_REVENTS, c_void_p]),
    "slirp_add_hostfwd": (c_int, [c_void_p, c_int, InAddr, c_int, InAddr, c_int]),
    "slirp_remove_hostfwd": (c_int, [c_void_p, c_int, InAddr, c_int]),
    "slirp_connection_info": (c_void_p, [c_void_p]),
}


def load() -> ctypes.CDLL:
    """The library with its prototypes set; `OSError` where it is not installed. errno is kept for callers that ask."""
    library = ctypes.CDLL(SONAME, use_errno=True)
    for name, (result, arguments) in _PROTOTYPES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def version(library: ctypes.CDLL) -> str:
    """Such as 4.7.0."""
    return str(library.slirp_version_string().decode())


def connection_info(library: ctypes.CDLL, slirp: int | None) -> str:
    """The table of `info usernet`. The string is GLib's, whose allocator is malloc since GLib 2.46."""
    pointer = library.slirp_connection_info(slirp)
    text = ctypes.string_at(pointer).decode()
    libc = ctypes.CDLL(None)
    libc.free.argtypes = [c_void_p]
    libc.free(pointer)
    return text


def config_version(library_version: str) -> int:
    """The newest configuration both sides know: 4 from libslirp 4.7 on, 1 before (4.1)."""
    major, minor = (int(part) for part in library_version.split(".")[:2])
    return 4 if (major, minor) >= (4, 7) else 1
