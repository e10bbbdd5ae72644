"""The states of a connection (RFC 9293 3.3.2) and what each lets through."""

from __future__ import annotations

from enum import Enum
from typing import Final

__all__ = ["HANDSHAKE", "RECEIVES", "RESET_IS_NO_ERROR", "SENDS", "State"]


class State(Enum):
    """Figure 5 of RFC 9293. LISTEN is a stack's: a connection begins with a SYN, sent or received."""

    __hash__ = object.__hash__  # Enum's own is a function in Python, and states are looked up with every segment

    CLOSED = "CLOSED"
    LISTEN = "LISTEN"
    SYN_SENT = "SYN-SENT"
    SYN_RECEIVED = "SYN-RECEIVED"
    ESTABLISHED = "ESTABLISHED"
    FIN_WAIT_1 = "FIN-WAIT-1"
    FIN_WAIT_2 = "FIN-WAIT-2"
    CLOSE_WAIT = "CLOSE-WAIT"
    CLOSING = "CLOSING"
    LAST_ACK = "LAST-ACK"
    TIME_WAIT = "TIME-WAIT"


HANDSHAKE: Final = frozenset({State.SYN_SENT, State.SYN_RECEIVED})
"""Before this side's SYN is acknowledged."""

SENDS: Final = frozenset({State.ESTABLISHED, State.CLOSE_WAIT, State.FIN_WAIT_1, State.CLOSING, State.LAST_ACK})
"""Where there may be text, or a FIN, to send or to send again."""

RECEIVES: Final = frozenset({State.ESTABLISHED, State.FIN_WAIT_1, State.FIN_WAIT_2})
"""Where the peer's text is wanted (RFC 9293 3.10.7.4, seventh check)."""

RESET_IS_NO_ERROR: Final = frozenset({State.CLOSING, State.LAST_ACK, State.TIME_WAIT})
"""Where a RST takes nothing from the user, and ABORT sends none (RFC 9293 3.10.5, 3.10.7.4 second check)."""
