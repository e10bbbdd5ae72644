"""Which outstanding octets have arrived, which are lost, which were sent again (RFC 6675; RFC 6582 without SACK).

Instead of a list of segments there are four marks on the sequence space and one set of ranges:

    una                     high_rxt          lost_edge                        nxt
     |--- sent again --------|                 |                                |
     |--- lost, but for the SACKed ranges -----|--- in flight or SACKed --------|

Everything below `lost_edge` that is not SACKed is lost (`IsLost`, RFC 6675 4), whether by SACKs above it or because the
retransmission timer expired; everything below `high_rxt` that is not SACKed was retransmitted (`HighRxt`). Holes are
filled in order, so the two marks are enough, and `pipe` (SetPipe) is arithmetic on them: nothing here walks over
segments, and one ACK costs no more than a binary search and a sum.

A peer without SACK only says that something left the network: `departed` octets, one SMSS a duplicate ACK, which is
the window inflation of RFC 5681 3.2 written on the other side of the equation.

A connection has one only while there is something to write on it.

Not done: the rescue retransmission (RFC 6675 4, NextSeg rule 4), D-SACK (RFC 2883), RACK-TLP (RFC 8985). A
retransmission that is lost itself waits for the timer.
"""

from __future__ import annotations

from typing import Final

from netemu.stack.tcp.ranges import RangeSet

__all__ = ["DUP_THRESH", "Scoreboard"]

DUP_THRESH: Final = 3  # RFC 5681 3.2, RFC 6675 2
_RANGES_KEPT: Final = 4096
"""A hostile peer may SACK every other octet: past this many holes, further blocks are ignored; SACK is only advice."""


class Scoreboard:
    """The sender's picture of the network. Sequence numbers are whole numbers, see `sequence`."""

    __slots__ = ("_departed", "_high_rxt", "_lost_edge", "_sacked", "_smss", "_una")

    def __init__(self, una: int, smss: int) -> None:
        self._una = una
        self._smss = smss
        self._sacked = RangeSet()
        self._lost_edge = una
        self._high_rxt = una
        self._departed = 0

    @property
    def front_lost(self) -> bool:
        """IsLost(SND.UNA) (RFC 6675 4)."""
        return self._lost_edge > self._una

    @property
    def blank(self) -> bool:
        """It says no more than a new one would."""
        una = self._una
        return not (self._sacked or self._departed) and self._lost_edge == una == self._high_rxt

    def pipe(self, nxt: int) -> int:
        """How many octets are in the network (RFC 6675 4, SetPipe)."""
        una, sacked = self._una, self._sacked
        in_network = nxt - una - sacked.total - self._departed
        if self._lost_edge > una:
            in_network -= self._lost_edge - una - sacked.count_below(self._lost_edge)
        if self._high_rxt > una:
            in_network += self._high_rxt - una - sacked.count_below(self._high_rxt)
        return max(in_network, 0)

    def selectively_acknowledged(self, left: int, right: int) -> bool:
        """A SACK block between SND.UNA and SND.NXT; true when it says something new."""
        if len(self._sacked) >= _RANGES_KEPT or not self._sacked.add(left, right):
            return False
        octets = 0
        for count in range(1, len(self._sacked) + 1):
            start, end = self._sacked[-count]
            octets += end - start
            if count >= DUP_THRESH or octets > (DUP_THRESH - 1) * self._smss:
                self._lost_edge = max(self._lost_edge, start)
                break
        return True

    def acknowledged(self, una: int) -> None:
        """SND.UNA moved forward."""
        self._una = una
        self._sacked.discard_below(una)
        self._lost_edge = max(self._lost_edge, una)
        self._high_rxt = max(self._high_rxt, una)

    def departed(self) -> None:
        """Without SACK: a duplicate ACK, so a segment has left the network (RFC 5681 3.2 steps 1 and 4)."""
        self._departed += self._smss

    def partly_acknowledged(self, octets: int) -> None:
        """Without SACK: a partial ACK of `octets`, so the next segment is lost as well (RFC 6582 3.2 step 3)."""
        self._departed = max(self._departed - octets + (self._smss if octets >= self._smss else 0), 0)
        self._high_rxt = self._una

    def front_is_lost(self, nxt: int) -> None:
        """Presume the first segment lost, whatever the SACKs say (RFC 6675 5 step 4.3)."""
        hole = self._sacked.gap(self._una, min(self._una + self._smss, nxt))
        if hole:
            self._lost_edge = max(self._lost_edge, hole[1])

    def recovery_begins(self) -> None:
        self._high_rxt = self._una

    def forget_departures(self) -> None:
        """Without SACK: new data was acknowledged, so the duplicate ACKs before it no longer say anything."""
        self._departed = 0

    def timed_out(self, nxt: int) -> None:
        """Everything is presumed lost, and SACKs are forgotten: the peer may have reneged (RFC 2018 8)."""
        self._sacked.clear()
        self._departed = 0
        self._lost_edge = nxt
        self._high_rxt = self._una

    def next_lost(self) -> tuple[int, int] | None:
        """The next octets that are lost and were not sent again (RFC 6675 4, NextSeg rule 1)."""
        return self._sacked.gap(max(self._high_rxt, self._una), self._lost_edge)

    def next_doubtful(self) -> tuple[int, int] | None:
        """The next octets below the highest SACK that were not sent again (RFC 6675 4, NextSeg rule 3)."""
        if not self._sacked:
            return None
        return self._sacked.gap(max(self._high_rxt, self._una), self._sacked[-1][0])

    def retransmitted(self, end: int) -> None:
        """The octets up to `end` were sent again."""
        self._high_rxt = max(self._high_rxt, end)
