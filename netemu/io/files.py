"""A directory whose files are served, and out of which no name leads.

Names are resolved one part at a time, from the directory's descriptor: `..` and symbolic links are followed by hand, and neither
leads above where it began, so a link inside may point anywhere inside. Nothing is checked first and opened afterwards: a directory
that is changed meanwhile cannot widen what is served (openat2(2) RESOLVE_BENEATH has the same rules, but not every sandbox lets a
process use it). A leading `/` is the directory itself, as for a server in a changed root. Only regular files are served.

New files are written under a hidden name beside their own, and get theirs when they are whole.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from contextlib import suppress

from netemu.errors import HostError, LocalError

__all__ = ["Folder", "FolderReader", "FolderWriter"]

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC  # non-blocking, for a FIFO would wait for its writer
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LINKS = 40  # symbolic links followed in one name, as Linux does (path_resolution(7))
_MODE = 0o644


class FolderReader:
    """A file that is read from its beginning."""

    def __init__(self, fd: int) -> None:
        self.size = os.fstat(fd).st_size
        self._file = open(fd, "rb")  # noqa: SIM115 - `close` closes it

    def read(self, count: int) -> bytes:
        """The next `count` octets, fewer at the end only; raises `HostError`."""
        try:
            return self._file.read(count)
        except OSError as error:
            raise _host_error(error, "read a file") from None

    def close(self) -> None:
        self._file.close()


class FolderWriter:
    """A new file called `name` in the directory `parent`, a descriptor that this closes. Raises `OSError`."""

    def __init__(self, parent: int, name: str) -> None:
        self._name = name
        self._hidden = f".{name}.part"
        self._file = open(os.open(self._hidden, _NEW, _MODE, dir_fd=parent), "wb")  # noqa: SIM115 - `close` closes it
        self._parent = parent

    def write(self, data: bytes) -> None:
        """Raises `HostError`."""
        try:
            self._file.write(data)
        except OSError as error:
            raise _host_error(error, "write a file") from None

    def commit(self) -> None:
        """The file is whole: it gets its name. Raises `HostError`, EEXIST if another has that name by now."""
        try:
            self._file.flush()
            os.link(self._hidden, self._name, src_dir_fd=self._parent, dst_dir_fd=self._parent, follow_symlinks=False)
        except OSError as error:
            raise _host_error(error, f"name a file {self._name!r}") from None

    def close(self) -> None:
        if self._parent >= 0:
            with suppress(OSError):  # what the disk did not take was not named either
                self._file.close()
            with suppress(FileNotFoundError):  # the directory may have been emptied meanwhile
                os.unlink(self._hidden, dir_fd=self._parent)
            os.close(self._parent)
            self._parent = -1


class Folder:
    """The files of the directory `path`; raises `LocalError` if it is none."""

    def __init__(self, path: str) -> None:
        try:
            self._root = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise LocalError(f"{path!r} cannot be served: {error.strerror}; give a directory that is there") from None

    def open(self, name: str) -> FolderReader:
        """The file called `name`. `HostError`: ENOENT, EACCES, EISDIR (no regular file), EXDEV (outside), ELOOP."""
        try:
            fd = self._open(name)
        except (OSError, ValueError) as error:
            raise _host_error(error, f"open {name!r}") from None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise HostError(errno.EISDIR, f"open {name!r}")
        return FolderReader(fd)

    def create(self, name: str) -> FolderWriter:
        """A new file, in a directory that is there. `HostError`: as `open`, and EEXIST if there is something of that name."""
        folder, _, last = name.rpartition("/")
        parent = None
        try:
            if last in ("", ".", ".."):
                raise IsADirectoryError(errno.EISDIR, "no name of a file")
            parent = self._open(folder, directory=True)
            with suppress(FileNotFoundError):
                os.stat(last, dir_fd=parent, follow_symlinks=False)
                raise FileExistsError(errno.EEXIST, "there is one")
            return FolderWriter(parent, last)
        except (OSError, ValueError) as error:
            if parent is not None:
                os.close(parent)
            raise _host_error(error, f"create {name!r}") from None

    def close(self) -> None:
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    def _open(self, name: str, *, directory: bool = False) -> int:
        """A descriptor of what `name` is; raises `OSError`, and `ValueError` for a name with a zero."""
        todo = deque(name.split("/"))
        path = [os.dup(self._root)]  # descriptors, from the root to where we are
        links = 0
        try:
            while todo:
                part = todo.popleft()
                if part in ("", "."):
                    continue
                if part == "..":
                    if len(path) == 1:
                        raise OSError(errno.EXDEV, "above the root")
                    os.close(path.pop())
                    continue
                link = _read_link(part, path[-1])
                if link is not None:
                    links += 1
                    if link.startswith("/"):
                        raise OSError(errno.EXDEV, "an absolute link")
                    if links > _LINKS:
                        raise OSError(errno.ELOOP, "too many links")
                    todo.extendleft(reversed(link.split("/")))
                elif any(todo) or directory:
                    path.append(os.open(part, _DIRECTORY, dir_fd=path[-1]))
                else:
                    return os.open(part, _FILE, dir_fd=path[-1])
            return path.pop() if directory else os.open(".", _FILE, dir_fd=path[-1])
        finally:
            for fd in path:
                os.close(fd)


def _read_link(name: str, parent: int) -> str | None:
    """Where the symbolic link `name` leads, None if it is none; raises `OSError`."""
    try:
        return os.readlink(name, dir_fd=parent)
    except OSError as error:
        if error.errno == errno.EINVAL:
            return None
        raise


def _host_error(error: OSError | ValueError, operation: str) -> HostError:
    return HostError((isinstance(error, OSError) and error.errno) or errno.ENOENT, operation)
