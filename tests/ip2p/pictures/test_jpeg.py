"""What a JPEG says of itself."""

import io

import pytest
from PIL import Image

from ip2p.pictures.jpeg import count_scans, read_size


def jpeg(**options: object) -> bytes:
    stream = io.BytesIO()
    Image.linear_gradient("L").resize((24, 16)).convert("RGB").save(stream, "JPEG", **options)
    return stream.getvalue()


@pytest.mark.parametrize("progressive", [False, True])
def test_size_and_scans_are_read(progressive: bool) -> None:
    data = jpeg(progressive=progressive, comment=b"\xff\xda\xff\xc0\xff\xd9")
    assert read_size(data) == (24, 16)
    assert (count_scans(data) > 1) == progressive and count_scans(data) < 20


def test_what_is_cut_has_no_size() -> None:
    for data in (b"", b"\xff\xd8", b"\xff\xd8\xff\xd9", jpeg()[:30]):
        assert read_size(data) is None and count_scans(data) == 0
