"""HTTP GET from any guest that opens TCP connections (RFC 9110, RFC 9112): one request, one connection, one answer.

    answer = http_get(guest, "http://192.0.2.1:8000/file")

The standard library parses the answer. Not done: names in the URL (resolve them first), redirections, TLS.
"""

from __future__ import annotations

import io
import socket
from http.client import HTTPException, HTTPResponse
from typing import NamedTuple, cast
from urllib.parse import urlsplit

from netemu.errors import LocalError, PeerError
from netemu.guest.protocol import Guest
from netemu.net.sockets import DEFAULT_TIMEOUT

__all__ = ["HttpAnswer", "http_get"]

_PORT = 80  # RFC 9110 4.2.1


class HttpAnswer(NamedTuple):
    """Status code, header fields by their names in small letters, and content."""

    status: int
    fields: dict[str, str]
    content: bytes


def http_get(guest: Guest, url: str, *, timeout: float = DEFAULT_TIMEOUT) -> HttpAnswer:
    """Get `url`, whose host is an address. `timeout` is seconds for each step; an answer that is none is a `PeerError`."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or _PORT
    except ValueError as error:
        raise LocalError(f"url {url!r}: {error}; write http://192.0.2.1:8000/file") from None
    if parts.scheme != "http" or not host:
        raise LocalError(f"url {url!r}: write http://192.0.2.1:8000/file")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    with guest.tcp_connect(host, port, timeout=timeout) as stream:
        stream.send(f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode("ascii"))
        octets = stream.recv_all(timeout=timeout)
    response = HTTPResponse(cast("socket.socket", _Received(octets)), method="GET")
    try:
        response.begin()
        return HttpAnswer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
    except HTTPException as error:
        raise PeerError(f"{url} answered with no HTTP ({type(error).__name__}): {octets[:80]!r}") from None
    finally:
        response.close()


class _Received:
    """What HTTPResponse wants of a socket."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._octets)
