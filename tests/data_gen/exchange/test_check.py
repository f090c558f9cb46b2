"""Faults that were planted in pairs are found by row, and good pairs have none."""

import csv
import io
import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from PIL import Image, ImageChops

from ip2p.cli import run
from ip2p.data_gen.exchange.check import Checked, Fault, check_pairs
from ip2p.pairs.rows import PairRow
from ip2p.storybook.edits import evaluation_cases
from ip2p.storybook.render import render

LOCAL = ("door", "roof", "recolor", "add_animal", "swap_animal", "remove_animal", "add_sky", "clouds")
"""Kinds of edit that leave most pixels alone, so that a cast over all of them is no edit."""


def encode(image: Image.Image, kind: str = "PNG") -> bytes:
    """Encode a picture."""
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


@cache
def pairs(count: int = 30) -> tuple[tuple[Image.Image, Image.Image, str], ...]:
    """Draw scenes and their exact edits, with the kind of each."""
    cases = evaluation_cases(count, seed=21)
    return tuple(
        (render(each.scene).convert("RGB"), render(each.target).convert("RGB"), each.edit.kind) for each in cases
    )


def rows(
    change: Callable[[Image.Image], Image.Image] = lambda image: image, only: tuple[str, ...] = ()
) -> list[PairRow]:
    """Make rows whose edited pictures are changed."""
    return [
        PairRow(f"row {number}", encode(before), encode(change(after)), instruction=f"edit {number}")
        for number, (before, after, kind) in enumerate(pairs())
        if not only or kind in only
    ]


def found(given: list[PairRow], fault: Fault) -> set[str]:
    """Return the rows with a fault."""
    return {each.place for each in check_pairs(given).findings if each.fault is fault}


def frame(image: Image.Image) -> Image.Image:
    """Put a black border of four pixels above and below."""
    framed = Image.new("RGB", image.size)
    framed.paste(image.crop((0, 4, image.width, image.height - 4)), (0, 4))
    return framed


def cast(image: Image.Image) -> Image.Image:
    """Add five levels of red."""
    return ImageChops.add(image, Image.new("RGB", image.size, (5, 0, 0)))


def test_good_pairs_have_no_fault() -> None:
    checked = check_pairs(rows())
    assert checked.rows == 30 and len(checked.findings) <= 1, checked


@pytest.mark.parametrize(
    ("fault", "change", "only"),
    [
        (Fault.BORDER, frame, ()),
        (Fault.DRIFT, cast, LOCAL),
        (Fault.UNEQUAL_SIZES, lambda image: image.resize((250, 256)), ()),
        (Fault.SHIFT, lambda image: ImageChops.offset(image, 1, 0), ()),
    ],
)
def test_what_is_planted_is_found(
    fault: Fault, change: Callable[[Image.Image], Image.Image], only: tuple[str, ...]
) -> None:
    given = rows(change, only)
    assert len(found(given, fault)) >= 0.9 * len(given) > 5


def test_copies_and_repetitions_are_found_by_row() -> None:
    given = rows()
    before = given[0].source
    copies = [PairRow("copy", before, before, instruction="a")]
    again = [PairRow(f"again {n}", each.source, each.edited, instruction="b") for n, each in enumerate(given[:3])]
    jpeg = [
        PairRow(f"jpeg {n}", encode(before, "JPEG"), encode(after, "JPEG"), instruction="c")
        for n, (before, after, _) in enumerate(pairs())
    ]
    assert found(given + copies, Fault.NEAR_COPY) == {"copy"}
    assert found(given + again, Fault.DUPLICATE) == {"again 0", "again 1", "again 2"}
    assert len(found(given + jpeg, Fault.NEAR_DUPLICATE)) >= 28


def test_pictures_of_other_rows_are_found_one_by_one() -> None:
    """Several edits of one source are no fault, and neither is an edit back to a source."""
    given = rows()[:4]
    one, two, three, four = given
    recompressed = encode(pairs()[0][0], "JPEG")
    more = {
        "another edit": (one.source, two.edited),  # whose edited picture is that of row 1
        "saved again": (recompressed, four.source),
        "back": (one.edited, one.source),
        "the next turn": (one.edited, three.source),
        "back again": (two.edited, one.source),
    }
    checked = check_pairs(
        [*given, *(PairRow(name, before, after, instruction=name) for name, (before, after) in more.items())]
    )
    across = (Fault.DUPLICATE, Fault.NEAR_DUPLICATE, Fault.NEAR_SOURCE, Fault.SAME_EDITED)
    assert [(each.place, each.fault, each.detail) for each in checked.findings if each.fault in across] == [
        ("another edit", Fault.SAME_EDITED, "that of row 1"),
        ("saved again", Fault.NEAR_SOURCE, "of row 0"),
    ]


@pytest.mark.parametrize(("side", "told"), [(128, True), (64, True), (32, False)])
def test_half_a_pixel_is_found_where_pictures_are_large_enough_and_else_said(side: int, told: bool) -> None:
    def small(image: Image.Image, moved: float = 0.0) -> bytes:
        sized = image.resize((side, side), Image.Resampling.LANCZOS)
        return encode(
            sized.transform(sized.size, Image.Transform.AFFINE, (1, 0, -moved, 0, 1, 0), Image.Resampling.BICUBIC)
        )

    def check(moved: float) -> Checked:
        return check_pairs(
            [PairRow(f"{n}", small(a), small(b, moved), instruction=f"{n}") for n, (a, b, _) in enumerate(pairs())]
        )

    moved, good = check(0.5), check(0.0)
    shifts = [each for each in moved.findings if each.fault is Fault.SHIFT]
    assert len(shifts) >= 29 if told else not shifts
    assert all(re.fullmatch(r"([\d.]+ pixels (to the (left|right)|down|up)( and )?)+", each.detail) for each in shifts)
    assert not [each for each in good.findings if each.fault is Fault.SHIFT]
    assert ("not checked for a shift: 30" in str(moved)) != told


def test_siblings_with_another_small_edit_are_no_duplicates() -> None:
    before, after, _ = next(each for each in pairs() if each[2] == "door")
    other = after.copy()
    other.paste((250, 240, 30), (120, 120, 140, 150))
    given = [PairRow("a", encode(before), encode(after), instruction="a")]
    given += [PairRow("b", encode(before), encode(other), instruction="b")]
    assert not found(given, Fault.NEAR_DUPLICATE)


def test_instructions_are_checked() -> None:
    given = [
        PairRow(f"{n}", r.source, r.edited, instruction="Make it  winter" if n < 12 else f"{n}")
        for n, r in enumerate(rows())
    ]
    given += [PairRow("none", given[0].edited, given[1].source)]
    assert found(given, Fault.NO_INSTRUCTION) == {"none"}
    assert found(given, Fault.REPEATED) == {str(n) for n in range(12)}


@pytest.mark.parametrize("bad", [b"", b"no picture", encode(Image.new("RGB", (64, 64)))[:60]])
def test_what_is_unreadable_is_told_and_the_rest_is_checked(bad: bytes) -> None:
    given = rows()[:3]
    given[1] = PairRow("bad", bad, given[1].edited, instruction="x", fault="" if bad else "no source picture")
    checked = check_pairs(given)
    assert [(each.place, each.fault) for each in checked.findings] == [("bad", Fault.UNREADABLE)]


def test_the_command_writes_faults_by_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, lines = tmp_path / "set", []
    folder.mkdir()
    for number, (before, after, _) in enumerate(pairs()[:4]):
        before.save(folder / f"{number}a.png")
        (frame(after) if number == 2 else after).save(folder / f"{number}b.png")
        names = {"source_img": f"{number}a.png", "target_img": f"{number}b.png", "instruction": f"{number}"}
        lines.append(json.dumps(names | ({"target_img": "../../etc/passwd"} if number == 3 else {})))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    assert run(["dataset", "check", str(folder), "-o", str(tmp_path / "faults.csv")]) == 1
    assert "4 pairs, 2 with a fault" in capsys.readouterr().out
    with (tmp_path / "faults.csv").open() as stream:
        told = [(row["row"], row["fault"]) for row in csv.DictReader(stream)]
    assert told == [("metadata.jsonl, row 2", "border growth"), ("metadata.jsonl, row 3", "unreadable")]
    assert run(["dataset", "check", str(tmp_path / "nowhere")]) == 2
    assert "there is no data set at" in capsys.readouterr().err
