"""A forwarded port, as every user-mode network reports it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from netemu.wire.address import Endpoint

__all__ = ["Forward"]


@dataclass(frozen=True, slots=True)
class Forward:
    """Where the host listens (the real port, if 0 was asked for) and where the guest is to serve."""

    protocol: Literal["tcp", "udp"]
    host: Endpoint
    guest: Endpoint

    def __str__(self) -> str:
        return f"{self.protocol}:{self.host}-{self.guest}"
