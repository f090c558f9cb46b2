"""Counts, the report and the packed data set, without any model."""

import functools
import io
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset
from PIL import Image

from ip2p.data_gen.config import DatasetConfig
from ip2p.data_gen.pairs.pack import pack, packed_row, split_of
from ip2p.data_gen.report.card import dataset_card
from ip2p.data_gen.report.counts import BINS, Counts
from ip2p.data_gen.report.pairs_page import KEPT_SHOWN, REFUSED_SHOWN, PairChoice, ShownPair, render_report
from ip2p.data_gen.rows import FilteredShard, to_png, triples_by_id
from ip2p.errors import DataError
from ip2p.records import PACKED_COLUMNS, Candidate, Reason, Triple

HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=y>"
PICTURE = to_png(Image.new("RGB", (8, 8), "red"))


def triple(number: int, kind: str = "time", **others: Any) -> Triple:
    """Make a unique triple."""
    values = {"id": f"t{number}", "caption_id": f"c{number}", "caption": f"{number} barns", "kind": kind}
    more = {"instruction": "make it night", "edited_caption": f"{number} barns at night", "writer": "rules"}
    return Triple.model_validate(values | more | others)


def candidate(number: int, triple_id: str, reason: Reason = Reason.OK, **scores: float) -> Candidate:
    """A candidate that was decided."""
    values = {"id": f"k{number}", "triple_id": triple_id, "seed": 1, "p": 0.5, "cfg": 4.0, "steps": 3}
    status = "refused" if reason else "ok"
    return Candidate.model_validate(values | {"status": status, "reason": reason} | scores)


@pytest.fixture
def shard() -> FilteredShard:
    """Two triples drawn, one refused; three candidates kept and eight refused."""
    triples = [triple(1), triple(2, "season"), triple(3, status="refused", reason=Reason.UNCHANGED)]
    kept = [candidate(number, "t1", sim_direction=0.5) for number in range(3)]
    refused = [candidate(number, "t2", Reason.LOW_IMAGE, sim_image=-0.999) for number in range(3, 11)]
    return FilteredShard(triples, kept + refused, unet_rows=660)


@pytest.fixture
def counts(shard: FilteredShard) -> Counts:
    """Return the counts of the shard."""
    counted = Counts()
    counted.add(shard)
    return counted


def shown(each: Candidate, by: Triple) -> ShownPair:
    """A pair on the page."""
    return ShownPair(each, by, PICTURE["bytes"], PICTURE["bytes"])


def test_everything_is_counted_once(counts: Counts) -> None:
    assert (counts.total, counts.pairs, counts.served) == (11, 3, 1)
    assert counts.triples == {Reason.OK: 2, Reason.UNCHANGED: 1}
    assert (counts.drawn["season"], counts.kept["season"], counts.kept["time"]) == (8, 0, 3)
    assert counts.rows_per_pair == 220
    for score in ("sim_image", "sim_direction"):
        assert sum(map(sum, counts.histogram(score))) == 11
    assert counts.histogram("sim_image")[0].refused == 8
    assert counts.histogram("sim_direction")[int(0.75 * BINS)].kept == 3


def test_a_repeated_triple_does_not_hide_the_first() -> None:
    first, again = triple(1), triple(1, "other", status="refused", reason=Reason.DUPLICATE)
    assert triples_by_id([first, again])["t1"] is first


def test_the_page_shows_some_of_each(shard: FilteredShard) -> None:
    choice = PairChoice()
    assert [each.status for each in choice.take(shard)] == ["ok"] * 3 + ["refused"] * REFUSED_SHOWN
    assert len(choice.take(shard)) == KEPT_SHOWN - 3


class Page(HTMLParser):
    """Tags and links of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record tags and links."""
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]


def test_hostile_texts_stay_texts(shard: FilteredShard, counts: Counts) -> None:
    counts.drawn[HOSTILE] += 1
    bad = triple(1, HOSTILE, caption=HOSTILE, instruction=HOSTILE, edited_caption=HOSTILE)
    config = DatasetConfig.model_validate({"captions": {"source": HOSTILE}, "scores": {"clip": HOSTILE}})
    text = render_report(config, counts, [shown(each, bad) for each in shard.candidates])
    page = Page()
    page.feed(text)
    assert "script" not in page.tags and page.tags.count("img") == 2 * 11
    assert not [name for name in page.attributes if name.startswith("on")]
    assert all(link.startswith("data:image/jpeg;base64,") for link in page.links)
    assert text.count("<svg") == 4 and "low_image" in text and "unchanged" in text


def test_a_report_of_nothing_is_a_page_too() -> None:
    assert "0 pairs kept of 0 candidates" in render_report(DatasetConfig(), Counts(), [])


def test_splits_keep_a_caption_together_and_have_their_share() -> None:
    names = [split_of(f"caption {number}", 0.2) for number in range(2000)]
    assert 300 < names.count("test") < 500
    assert names == [split_of(f"caption {number}", 0.2) for number in range(2000)]
    assert {split_of(f"{number}", 0.0) for number in range(50)} == {"train"}


def row(number: int) -> dict[str, Any]:
    """A packed row."""
    pictures = {"original_image": PICTURE, "edited_image": PICTURE}
    return packed_row(candidate(number, "t1"), triple(1), pictures, "{}")


def test_packing_replaces_the_folder_or_leaves_it(tmp_path: Path) -> None:
    folder = tmp_path / "packed"
    rows = [("train", row(number)) for number in range(5)] + [("test", row(9))]
    assert pack(rows, folder, shard_rows=2, card="# card {}".format, config="x") == 6
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    train = {f"data/train-0000{number}-of-00003.parquet" for number in range(3)}
    assert names == {"README.md", "manifest.json", "data/test-00000-of-00001.parquet"} | train
    with pytest.raises(DataError, match="no pair was kept"):
        pack([], folder, shard_rows=2, card=str, config="x")
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == names
    assert pack(rows[:1], folder, shard_rows=2, card="# card {}".format, config="x") == 1
    assert len(list(folder.rglob("*.parquet"))) == 1 and not list(tmp_path.glob(".*"))


def test_rows_have_the_columns_in_order() -> None:
    assert tuple(row(1)) == PACKED_COLUMNS
    with Image.open(io.BytesIO(row(1)["edited_image"]["bytes"])) as image:
        assert image.size == (8, 8)


def test_the_card_tells_how_it_was_made(counts: Counts, make_config: Callable[..., DatasetConfig]) -> None:
    config = make_config("filter.per_kind.color.direction=0.1")
    card = dataset_card(config, counts, ["train"], "0123")
    for output in (
        "# 3 edits",
        "| candidates | 11 |",
        "| season | 8 | 0 | 0.0% |",
        "others for color",
        config.scores.clip,
    ):
        assert output in card
    assert re.search(r"path: data/train-\*\.parquet", card) and "data/test" not in card
    assert config.out not in card


def test_a_data_set_that_was_packed_anew_is_read_anew(
    counts: Counts, make_config: Callable[..., DatasetConfig], tmp_path: Path
) -> None:
    card = functools.partial(dataset_card, make_config(), counts, ["train"])
    rows = [("train", row(number)) for number in range(5)]
    for kept in (rows, rows[1:], rows[2:]):
        pack(kept, tmp_path / "packed", shard_rows=2, card=card, config="x")
        read = load_dataset(str(tmp_path / "packed"), split="train", cache_dir=str(tmp_path / "cache"))
        assert read["id"][:] == [each["id"] for _, each in kept]
