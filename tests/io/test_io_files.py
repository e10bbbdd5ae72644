"""A directory that is served, and what does not lead out of it."""

import errno
import os
from pathlib import Path

import pytest

from netemu.errors import HostError, LocalError
from netemu.io.files import Folder


@pytest.fixture
def served(tmp_path: Path) -> Path:
    root = tmp_path / "served"
    (root / "pxe").mkdir(parents=True)
    (root / "pxe" / "a").write_bytes(b"inside")
    (tmp_path / "secret").write_bytes(b"outside")
    return root


def read(root: Path, name: str) -> bytes:
    folder = Folder(str(root))
    try:
        file = folder.open(name)
        data = file.read(file.size + 1)
        file.close()
        return data
    finally:
        folder.close()


def refusal(root: Path, name: str) -> int | None:
    with pytest.raises(HostError) as caught:
        read(root, name)
    return caught.value.errno


@pytest.mark.parametrize("name", ["pxe/a", "/pxe/a", "./pxe//a", "pxe/../pxe/a", "pxe/b", "up/pxe/a", "pxe/c"])
def test_names_that_lead_to_a_file(served: Path, name: str) -> None:
    (served / "pxe" / "b").symlink_to("a")
    (served / "pxe" / "c").symlink_to("../pxe/../pxe/b")
    (served / "up").symlink_to("pxe/..")
    assert read(served, name) == b"inside"


@pytest.mark.parametrize("name", ["../secret", "/../secret", "pxe/../../secret", "..", "up", "pxe/up", "absolute", "far/secret"])
def test_no_name_leads_out(served: Path, name: str) -> None:
    (served / "up").symlink_to("../secret")
    (served / "pxe" / "up").symlink_to("../../secret")
    (served / "absolute").symlink_to(served.parent / "secret")
    (served / "far").symlink_to("pxe/../..")
    assert refusal(served, name) == errno.EXDEV


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("b", errno.ENOENT),
        ("", errno.EISDIR),
        ("pxe", errno.EISDIR),
        ("pxe/.", errno.EISDIR),
        ("pxe/a/b", errno.ENOTDIR),
        ("a\0b", errno.ENOENT),
        ("x" * 300, errno.ENAMETOOLONG),
        ("loop", errno.ELOOP),
        ("fifo", errno.EISDIR),
    ],
)
def test_what_is_no_file(served: Path, name: str, error: int) -> None:
    (served / "loop").symlink_to("loop")
    os.mkfifo(served / "fifo")
    assert refusal(served, name) == error


def test_no_descriptor_is_left(served: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    read(served, "pxe/a")
    refusal(served, "../secret")
    refusal(served, "pxe")
    folder = Folder(str(served))
    folder.create("new").close()
    with pytest.raises(HostError):
        folder.create("pxe/a")
    folder.close()
    folder.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_new_file_is_there_when_it_is_whole(served: Path) -> None:
    folder = Folder(str(served))
    file = folder.create("pxe/new")
    file.write(b"one")
    assert not (served / "pxe" / "new").exists()
    file.write(b"two")
    file.commit()
    file.close()
    assert (served / "pxe" / "new").read_bytes() == b"onetwo"
    half = folder.create("half")
    half.write(b"one")
    half.close()
    half.close()
    folder.close()
    assert sorted(path.name for path in served.rglob("*")) == ["a", "new", "pxe"]


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("pxe/a", errno.EEXIST),
        ("pxe", errno.EEXIST),
        ("dangling", errno.EEXIST),
        ("../new", errno.EXDEV),
        ("none/new", errno.ENOENT),
        ("pxe/..", errno.EISDIR),
        ("", errno.EISDIR),
    ],
)
def test_where_no_file_can_be_made(served: Path, name: str, error: int) -> None:
    (served / "dangling").symlink_to("../new")
    folder = Folder(str(served))
    with pytest.raises(HostError) as caught:
        folder.create(name)
    assert caught.value.errno == error
    folder.close()


def test_what_came_to_have_the_name_meanwhile_stays(served: Path) -> None:
    folder = Folder(str(served))
    file = folder.create("new")
    (served / "new").write_bytes(b"theirs")
    with pytest.raises(HostError) as caught:
        file.commit()
    file.close()
    folder.close()
    assert caught.value.errno == errno.EEXIST
    assert (served / "new").read_bytes() == b"theirs"


def test_a_directory_that_goes_takes_its_half_files_along(served: Path) -> None:
    folder = Folder(str(served / "pxe"))
    file = folder.create("half")
    for path in sorted(served.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    file.close()
    folder.close()


def test_what_is_no_directory_is_not_served(served: Path) -> None:
    with pytest.raises(LocalError, match="give a directory that is there"):
        Folder(str(served / "pxe" / "a"))
