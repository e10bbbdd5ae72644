"""Which processes a guest has on this machine."""

from pathlib import Path


def processes_of(session):
    """Those of a session, zombies left out: they are their parent's to bury."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                state, _, _, session_id = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            except OSError:
                continue
            if int(session_id) == session and state != "Z":
                found.append(int(entry.name))
    return found
