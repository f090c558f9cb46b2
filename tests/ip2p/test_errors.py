"""Errors are one line: what was wrong, and what to do."""

import errno
import os
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ip2p import errors
from ip2p.errors import DataError, Ip2pError, reason, run_program, told_if_unwritable
from ip2p.shards import atomic_write

TREE = [
    errors.ImageError,
    errors.InstructionError,
    errors.ModelError,
    errors.ConfigError,
    errors.DataError,
    errors.WriterError,
    errors.TrainingError,
]


@pytest.mark.parametrize("kind", TREE)
def test_every_error_is_an_ip2p_error_and_names_its_remedy(kind: type[Ip2pError]) -> None:
    error = kind("the file a.png is empty", "Give another one")
    assert isinstance(error, Ip2pError)
    assert str(error) == "the file a.png is empty. Give another one"


@given(st.text(), st.text())
def test_an_error_is_one_line_whatever_it_quotes(what: str, fix: str) -> None:
    assert len(str(Ip2pError(what, fix)).splitlines()) == 1


@pytest.mark.parametrize(
    ("number", "fix"),
    [(errno.ENOSPC, "Make room"), (errno.EROFS, "Give another folder"), (errno.EACCES, "Give another folder")],
)
def test_a_full_disk_and_one_to_be_read_only_get_different_advice(number: int, fix: str, tmp_path: Path) -> None:
    path = tmp_path / "shard"
    with pytest.raises(DataError, match=f"shard cannot be written .*{fix}"), told_if_unwritable(path):
        raise OSError(number, os.strerror(number), str(path))
    if number != errno.ENOSPC:
        with pytest.raises(PermissionError if number == errno.EACCES else OSError), told_if_unwritable(path):
            raise OSError(number, os.strerror(number), "/another/file")


def circle(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize(
    ("make", "name", "told"),
    [
        (Path.touch, "way/x", "way: File exists"),
        (Path.touch, "way/folder/x", "way/folder: Not a directory"),
        (circle, "way/x", "way: File exists"),
        (circle, "way/folder/x", "way/folder: Too many levels of symbolic links"),
        (Path.mkdir, "way", "Is a directory"),
    ],
)
def test_what_is_in_the_way_of_a_file_is_told(
    make: Callable[[Path], None], name: str, told: str, tmp_path: Path
) -> None:
    make(tmp_path / "way")
    with pytest.raises(DataError, match=rf"{name} cannot be written \(.*{told}\). Give another name"):
        atomic_write(tmp_path / name, b"text")
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_far_above_that_may_not_be_written_to_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c"
    with pytest.raises(DataError, match="c cannot be written .*Give another folder"), told_if_unwritable(path):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(tmp_path / "a"))


def test_a_program_ends_in_one_line_where_it_cannot_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    for work in (lambda: (tmp_path / "file").mkdir(), lambda: (tmp_path / "file" / "x" / "y").mkdir(parents=True)):
        assert run_program(work) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: cannot write ") and line.endswith("Give another name")
        with pytest.raises(OSError):
            run_program(work, debug=True)
    with pytest.raises(FileNotFoundError):
        run_program((tmp_path / "nowhere").read_text)
    assert run_program(lambda: 3) == 3


def test_a_link_to_itself_and_no_place_for_temporary_files_are_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    circle(tmp_path / "loop")

    def resolve() -> None:
        (tmp_path / "loop" / "x").resolve()
        raise RuntimeError(f"Symlink loop from '{tmp_path / 'loop' / 'x'}'")  # since Python 3.13 it is none

    assert run_program(resolve) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'loop' / 'x'} is a link to itself. Give another name\n"
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: [str(tmp_path / "nowhere")])
    assert run_program(tempfile.gettempdir) == 2
    assert "Name one by TMPDIR" in capsys.readouterr().err


def test_a_reason_does_not_repeat_the_file() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        Path("nowhere.json").read_text()
    assert reason(caught.value) == "No such file or directory"
    assert reason(ValueError("not a\nnumber")) == "not a number"


def test_errors_cross_processes() -> None:
    error = pickle.loads(pickle.dumps(errors.DataError("torn", "redo")))
    assert (error.what, error.fix) == ("torn", "redo")


def test_the_docstring_draws_the_whole_tree() -> None:
    drawn = errors.__doc__ or ""
    assert all(kind.__name__ in drawn for kind in TREE)
    assert set(TREE) == set(Ip2pError.__subclasses__())
