"""What the two SYNs agree on: MSS (RFC 9293 3.7.1), window scale (RFC 7323 2), SACK (RFC 2018 2), timestamps (RFC 7323 3).

Each of the last three is in force only when both SYNs carried it; a SYN-ACK offers only what the SYN did.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from netemu.stack.tcp.config import MAXIMUM_WINDOW_SCALE, MINIMUM_MSS, TcpConfig
from netemu.wire.tcp import TcpOptions

__all__ = ["TIMESTAMPS_LENGTH", "Agreement", "offer", "sack_blocks_that_fit", "sack_length"]

TIMESTAMPS_LENGTH: Final = 12  # RFC 7323, appendix A: ten octets and two of padding


@dataclass(frozen=True, slots=True)
class Agreement:
    """The options of a connection. `send_mss`: the largest segment sent, in octets of payload and options together."""

    send_mss: int
    send_shift: int
    receive_shift: int
    sack: bool
    timestamps: bool

    @classmethod
    def of(cls, config: TcpConfig, peer: TcpOptions) -> Agreement:
        """What our `config` and the options of the peer's SYN have in common."""
        announced = config.default_mss if peer.mss is None else max(peer.mss, MINIMUM_MSS)
        scaled = config.window_scale is not None and peer.window_scale is not None
        return _agreement(
            send_mss=min(announced, config.mss),
            send_shift=min(peer.window_scale or 0, MAXIMUM_WINDOW_SCALE) if scaled else 0,  # RFC 7323 2.3
            receive_shift=config.window_scale or 0 if scaled else 0,
            sack=config.sack and peer.sack_permitted,
            timestamps=config.timestamps and peer.timestamps is not None,
        )

    @property
    def payload(self) -> int:
        """SMSS: the most payload of a segment that carries no SACK (RFC 9293 3.7.1, Eff.snd.MSS)."""
        return self.send_mss - (TIMESTAMPS_LENGTH if self.timestamps else 0)


_agreement = lru_cache(256)(Agreement)  # thousands of connections have the same


def offer(config: TcpConfig, peer: TcpOptions | None, timestamps: tuple[int, int]) -> TcpOptions:
    """The options of our SYN, or of our SYN-ACK when the `peer`'s are known."""
    return TcpOptions(
        mss=config.mss,
        window_scale=config.window_scale if peer is None or peer.window_scale is not None else None,
        sack_permitted=config.sack and (peer is None or peer.sack_permitted),
        timestamps=timestamps if config.timestamps and (peer is None or peer.timestamps is not None) else None,
    )


def sack_blocks_that_fit(*, timestamps: bool) -> int:
    """How many blocks 40 octets of options have room for (RFC 2018 3)."""
    return 3 if timestamps else 4


def sack_length(blocks: int) -> int:
    """The octets that a SACK option of so many blocks takes, with its padding."""
    return 4 + 8 * blocks if blocks else 0
