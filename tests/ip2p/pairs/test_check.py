"""Pictures are decoded before they are needed."""

from pathlib import Path

import pytest
from datasets import Dataset, Features, Value
from datasets import Image as Picture
from pair_files import ROWS, encode
from PIL import Image

from ip2p.errors import DataError
from ip2p.pairs.headers import measure
from ip2p.train.pairs import open_pairs


def spoil_middle(kind: str) -> bytes:
    """Make a picture whose header, end and length are right, and which no decoder takes."""
    data = bytearray(encode(Image.effect_noise((32, 32), 90).convert("RGB"), kind))
    start = data.index(b"\xff\xc4") + 5 if kind == "JPEG" else 20  # the lengths of codes; the first block
    data[start : start + 16] = b"\xff" * 16
    assert measure(bytes(data), "it") == (32, 32)
    return bytes(data)


def test_damage_in_the_middle_of_pictures_and_masks_is_found_before_the_first_step(tmp_path: Path) -> None:
    good = ROWS[0][0]
    rows = [
        {
            "original_image": {"bytes": first},
            "edited_image": {"bytes": good},
            "edit_mask": mask and {"bytes": mask},
            "edit": "x",
        }
        for first, mask in [(good, good), (spoil_middle("JPEG"), good), (good, spoil_middle("JPEG"))]
        + [(good, None)] * 9
    ]
    columns = {name: Picture() for name in ("original_image", "edited_image", "edit_mask")} | {"edit": Value("string")}
    Dataset.from_list(rows, features=Features(columns)).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(DataError, match=r"1 of 12 rows .*the source picture is damaged .*\(train, row 1\)"):
        open_pairs(tmp_path)
    with pytest.raises(DataError, match=r"2 of 12 rows .*the mask is damaged .*\(train, row 2\)"):
        open_pairs(tmp_path, masks=True)
    left = open_pairs(tmp_path, bad_rows="skip", masks=True)
    assert len(left.train) + len(left.held_out) == 10
    assert left.fingerprint() != open_pairs(tmp_path, bad_rows="skip").fingerprint()
