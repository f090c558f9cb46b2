"""Locks of folders, leases of work, and files that are replaced only if they are ours."""

import subprocess
import sys
from pathlib import Path

import pytest

from ip2p.errors import BusyError, DataError
from ip2p.ownership import lease, sole_writer, write_new

HOLDER = """
import sys
from pathlib import Path
from ip2p.ownership import lease
with lease(Path(sys.argv[1])) as mine:
    print(mine, flush=True)
    sys.stdin.read()
"""


def test_a_shared_lock_keeps_out_only_who_wants_the_folder_alone(tmp_path: Path) -> None:
    with sole_writer(tmp_path, file="lock", shared=True), sole_writer(tmp_path, file="lock", shared=True):
        with pytest.raises(BusyError, match="another run is writing to"), sole_writer(tmp_path, file="lock"):
            pass
    with sole_writer(tmp_path, file="lock"):
        with pytest.raises(BusyError), sole_writer(tmp_path, file="lock", shared=True):
            pass


def test_a_lease_is_that_of_one_process_and_ends_when_that_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "shard")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout and holder.stdout.readline() == "True\n"
        with lease(tmp_path / "shard") as mine:
            assert not mine
        holder.kill()
    with lease(tmp_path / "shard") as mine:
        assert mine


def test_a_lock_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "leases").write_text("somebody's")
    with pytest.raises(DataError, match="leases/folder cannot be made"), sole_writer(tmp_path, file="leases/folder"):
        pass


def test_a_file_of_somebody_else_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    write_new(path, b"row,fault\n1,shift\n")
    write_new(path, b"row,fault\n1,shift\n")
    with pytest.raises(DataError, match="list.csv is there and is not what would be written"):
        write_new(path, b"row,fault\n2,shift\n")
    write_new(path, b"row,fault\n2,shift\n", beginning=b"row,fault\n")
    assert path.read_bytes() == b"row,fault\n2,shift\n"
    path.write_bytes(b"my notes")
    for beginning in (None, b"row,fault\n"):
        with pytest.raises(DataError, match="is there"):
            write_new(path, b"row,fault\n", beginning=beginning)
    assert path.read_bytes() == b"my notes"
    (tmp_path / "link.csv").symlink_to(path)
    with pytest.raises(DataError, match="link.csv is there"):
        write_new(tmp_path / "link.csv", b"my notes")
