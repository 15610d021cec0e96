"""A file that is written is whole or as it was before, whatever stops the writing."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from fhir_screen.whole_file import write_whole


def test_a_file_is_replaced_as_a_whole_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(b"yesterday")
    path.chmod(0o644)
    write_whole(path, [b"to", b"day"])
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"today", 0o600)
    assert [one.name for one in tmp_path.iterdir()] == ["list.csv"]


@pytest.mark.parametrize("stop", [OSError("full"), KeyboardInterrupt(), ValueError("x")], ids=repr)
def test_what_stops_the_writing_leaves_what_was_there_and_nothing_else(tmp_path: Path, stop: BaseException) -> None:
    def parts() -> Iterator[bytes]:
        yield b"to"
        raise stop

    path = tmp_path / "list.csv"
    path.write_bytes(b"yesterday")
    with pytest.raises(type(stop)):
        write_whole(path, parts())
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("list.csv", b"yesterday")]


def test_a_folder_that_is_not_there_is_no_place(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "none" / "list.csv", [b"x"])
