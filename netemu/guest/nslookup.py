"""What BusyBox's nslookup says, as addresses or an error."""

from __future__ import annotations

import errno
import re
import shlex
from ipaddress import AddressValueError, IPv4Address
from math import ceil

from netemu.errors import HostError, NetemuTimeoutError
from netemu.guest.protocol import CommandResult
from netemu.wire.fields import IPAddress

__all__ = ["command", "parse"]

_ADDRESS = re.compile(r"^Address: +([0-9.]+)$", re.MULTILINE)  # the server's own line has a port
_REFUSAL = re.compile(r"^\*\* server can't find .*: ([A-Z]+)$", re.MULTILINE)  # the name of the response code (RFC 1035 4.1.1)
_NO_SUCH_NAME = "NXDOMAIN"


def command(name: str, server: IPAddress, timeout: float) -> str:
    """The shell command that asks `server` for A records of `name`, for `timeout` seconds at most."""
    return f"timeout {max(1, ceil(timeout))} nslookup -type=a {shlex.quote(name)} {server}"


def parse(name: str, result: CommandResult) -> list[IPv4Address]:
    """The addresses found; none if there is no such name or it has none."""
    refusal = _REFUSAL.search(result.output)
    if refusal is not None:
        if refusal[1] == _NO_SUCH_NAME:
            return []
        raise HostError(errno.EIO, f"resolve {name!r}: the server answered {refusal[1]}")
    if result.status:
        raise NetemuTimeoutError(f"resolve {name!r}: no answer; nslookup said:\n{result.output.strip()}")
    try:
        return [IPv4Address(text) for text in _ADDRESS.findall(result.output)]
    except AddressValueError as error:
        raise HostError(errno.EIO, f"resolve {name!r}: {error}") from None
