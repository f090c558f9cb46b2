"""Files that are replaced only if they are ours."""

from pathlib import Path

import pytest

from ip2p.errors import DataError
from ip2p.ownership import write_new


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
