"""A user-mode network as a process of its own: it serves a TAP that it was given as an open descriptor, until it is killed.

    python -m netemu.bench.serve FD MTU

Its host is the network namespace that it was started in.
"""

from __future__ import annotations

import gc
import resource
import sys
import threading
from secrets import randbits

from netemu.io.loop import RealLoop
from netemu.io.oshost import OsHost
from netemu.io.tap import TapPort
from netemu.net.port import connect
from netemu.netdev.user import UserNetdev
from netemu.user.options import UserOptions

__all__ = ["main"]


def main(arguments: list[str]) -> None:
    """Serve for ever."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    fd, mtu = map(int, arguments)
    loop = RealLoop()
    with loop:
        user = UserNetdev(loop, "user", UserOptions(mtu=mtu), OsHost(loop), randbits)
        connect(TapPort.adopt(loop, fd).port, user.port)
    gc.freeze()
    threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1:])
