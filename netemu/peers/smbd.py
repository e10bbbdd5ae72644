"""Samba's server, smbd, for one directory: what `smb=DIR` of a user-mode network starts, as QEMU does (slirp_smb in net/slirp.c).

One smbd serves one connection: it finds a socket as its standard input, as under inetd(8), speaks SMB there and ends with it. So
it needs no port, and the user network starts one for each connection of a guest's to port 445 or 139 of the SMB server's address.

Everything it writes is in a private directory (state, locks, passwords, logs), which `close` removes. Guests need no password and
act as the user who runs the test; the share is called `qemu`, as QEMU's, and may be written to where that user may write. Samba of
Debian is found at /usr/sbin/smbd (package samba).
"""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from netemu.errors import LocalError

__all__ = ["PORTS", "SHARE", "Smbd", "probe"]

PORTS: Final = (445, 139)  # SMB over TCP (MS-SMB2 2.1), and in NetBIOS sessions (RFC 1002 4.3)
SHARE: Final = "qemu"
_PATH: Final = f"{os.environ.get('PATH', '')}:/usr/sbin"

_CONFIGURATION: Final = """[global]
private dir = {state}
interfaces = 127.0.0.1
bind interfaces only = yes
pid directory = {state}
lock directory = {state}
state directory = {state}
cache directory = {state}
ncalrpc dir = {state}/ncalrpc
log file = {state}/log.smbd
smb passwd file = {state}/smbpasswd
security = user
map to guest = Bad User
guest account = {user}
load printers = no
printing = bsd
disable spoolss = yes
usershare max shares = 0
[{share}]
path = {directory}
read only = no
guest ok = yes
force user = {user}
"""


def probe() -> str | None:
    """Why smbd cannot run here, or None."""
    return None if shutil.which("smbd", path=_PATH) else "smbd is not installed (Debian: apt-get install samba)"


class Smbd:
    """The configuration of an smbd that shares `directory`; `command` is the shell command that serves one connection.

    Raises `LocalError` for what is no directory, and where there is no smbd.
    """

    def __init__(self, directory: str) -> None:
        program = shutil.which("smbd", path=_PATH)
        if program is None:
            raise LocalError(f"smb={directory}: {probe()}; install it or leave smb= out")
        if not Path(directory).is_dir() or not os.access(directory, os.R_OK | os.X_OK) or "\n" in directory:
            raise LocalError(f"smb={directory}: a directory that can be read is needed")
        self._state = TemporaryDirectory(prefix="netemu-smb")
        state = Path(self._state.name)
        configuration = state / "smb.conf"
        user = pwd.getpwuid(os.geteuid()).pw_name
        text = _CONFIGURATION.format(state=state, user=user, share=SHARE, directory=Path(directory).resolve())
        configuration.write_text(text)
        self.command = f"exec {program} -F -l {shlex.quote(str(state))} -s {shlex.quote(str(configuration))} 2>/dev/null"

    def close(self) -> None:
        """Remove what it wrote. Those that still serve a connection are the host's to end."""
        self._state.cleanup()
