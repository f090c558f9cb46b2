"""Counts, the report and the packed data set, without any model."""

import dataclasses
import functools
import io
import json
import re
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset
from PIL import Image

from ip2p.data_gen.config import DatasetConfig
from ip2p.data_gen.costs import Costs, read_costs, record_seconds
from ip2p.data_gen.pairs.pack import FEATURES, pack, packed_row
from ip2p.data_gen.pairs.preferences import FEATURES as PREFERENCE_FEATURES
from ip2p.data_gen.pairs.preferences import PICTURES as PREFERENCE_PICTURES
from ip2p.data_gen.report.card import dataset_card, describe_thresholds
from ip2p.data_gen.report.counts import BINS, Counts
from ip2p.data_gen.report.croissant import RecordSet, croissant
from ip2p.data_gen.report.licenses import Licenses, find_licenses
from ip2p.data_gen.report.pairs_page import KEPT_SHOWN, REFUSED_SHOWN, PairChoice, ShownPair, render_report
from ip2p.data_gen.report.reasons import MEANINGS
from ip2p.data_gen.rows import FilteredShard, to_png, triples_by_id
from ip2p.errors import DataError
from ip2p.records import PACKED_COLUMNS, Candidate, Reason, Triple
from ip2p.shards import Contents, hash_file

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
    return FilteredShard(triples, kept + refused, unet_rows=660, verdicts={})


@pytest.fixture
def counts(shard: FilteredShard) -> Counts:
    """Return the counts of the shard."""
    counted = Counts()
    counted.add(shard)
    return counted


def shown(each: Candidate, by: Triple) -> ShownPair:
    """A pair on the page."""
    return ShownPair(each, by, PICTURE["bytes"], PICTURE["bytes"])


def test_early_rejection_is_audited_by_what_is_never_rejected(shard: FilteredShard) -> None:
    verdicts = {each.id: "hopeless" if each.id in ("k1", "k4") else "hopeful" for each in shard.candidates}
    counted = Counts(audited=1.0)
    counted.add(dataclasses.replace(shard, verdicts=verdicts))
    assert (counted.hopeful, counted.hopeless) == (2, 1), "of the three that are kept"
    assert counted.describe_early() == "0 candidates (0.0%); it would have let pass 2 of 3 audited pairs that were kept"
    counted = Counts(audited=0.0)
    counted.add(dataclasses.replace(shard, verdicts=verdicts))
    assert "is unknown: none was audited" in counted.describe_early()


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


def test_bounds_that_refuse_nothing_leave_histograms_their_width(counts: Counts) -> None:
    """A line at the end of a score would draw its bars a few pixels wide."""

    def ends(**bounds: float) -> list[str]:
        page = render_report(DatasetConfig.model_validate({"filter": bounds}), counts, [], Costs({}, 0.0))
        return re.findall(r'<text x="(?:0|\d+)" y="126"[^>]*>([^<]*)</text>', page.split("direction: change of")[0])[
            -2:
        ]

    assert ends(direction=-1) == ends(direction=0.5) != ends(direction=-0.5) == ["-0.50", ends(direction=-1)[1]]


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
    text = render_report(config, counts, [shown(each, bad) for each in shard.candidates], Costs({HOSTILE: 1.0}, 0.5))
    page = Page()
    page.feed(text)
    assert "script" not in page.tags and page.tags.count("img") == 2 * 11
    assert not [name for name in page.attributes if name.startswith("on")]
    assert all(link.startswith("data:image/jpeg;base64,") for link in page.links)
    assert text.count("<svg") == 6 and "low_image" in text and "unchanged" in text


def test_the_page_has_the_funnel_the_yields_and_both_captions(shard: FilteredShard, counts: Counts) -> None:
    page = render_report(DatasetConfig(), counts, [shown(shard.candidates[0], shard.triples[0])], Costs({}, 0.0))
    lines = [" ".join(re.sub("<[^>]*>", " ", each).split()) for each in re.findall("(?s)<tr>.*?</tr>", page)]
    assert "triples 3 2 66.7% unchanged 1" in lines and "candidates 11 3 27.3% low_image 8" in lines
    assert "time 3 3 100.0%" in lines and "season 8 0 0.0%" in lines and "0.5 to 0.6 11 3 27.3%" in lines
    assert "1 barns<br>" in page and "1 barns at night<br>" in page


def test_every_reason_is_explained_where_it_occurs(counts: Counts) -> None:
    assert MEANINGS.keys() == set(Reason) - {Reason.OK}
    page = render_report(DatasetConfig(), counts, [], Costs({}, 0.0))
    assert "image is below its threshold" in page and "direction is below its threshold" not in page


def test_thresholds_that_refuse_nothing_are_not_told(counts: Counts) -> None:
    all_meet = {"source": -1, "edited": -1, "image": -1, "image_max": 1, "changed_min": 0, "changed_max": 1}
    filters = all_meet | {"judge_kept_min": 0, "direction": 0.35, "layout_max": 0.9, "shift_max": 4, "top_k": 3}
    config = DatasetConfig.model_validate({"filter": filters, "scores": {"judge": "some-model"}})
    told = "direction ≥ 0.35, layout ≤ 0.9, shift ≤ 4"
    assert describe_thresholds(config) == f"{told}, best 3 of a triple"
    page = render_report(config, counts, [], Costs({}, 0.0))
    assert f"thresholds ({told}, best" in page
    assert re.findall("[≥≤] [-0-9.]+(?=</text>)", page) == ["≥ 0.35", "≤ 0.9"], "a line for each that can refuse"
    some_miss = {"source": 0.1, "edited": 0.1, "image": 0.1, "image_max": 0.99, "changed_min": 0.1, "changed_max": 0.9}
    assert describe_thresholds(DatasetConfig.model_validate({"filter": some_miss})) == (
        "source ≥ 0.1, edited ≥ 0.1, image ≥ 0.1, image ≤ 0.99, direction ≥ 0.2, changed ≥ 0.1, changed ≤ 0.9, "
        "best 4 of a triple"
    )


def test_a_report_of_nothing_is_a_page_too() -> None:
    page = render_report(DatasetConfig(), Counts(), [], Costs({}, 0.0))
    assert "no pair was kept" in page and "0 by storybook-base" in page
    assert "0 candidates</text>" in page and "inf" not in page.partition("<h2>")[0]


def test_the_first_thing_of_the_report_is_what_a_pair_costs(counts: Counts, tmp_path: Path) -> None:
    for stage, seconds in (("candidates", 10.0), ("scores", 4.5), ("candidates", 8.5)):
        record_seconds(tmp_path, stage, seconds)
    for seconds in (3.0, 7.0):  # as by the run that resumes it
        record_seconds(tmp_path, "candidates", seconds, of="shard 1")
    with (tmp_path / "seconds.jsonl").open("a") as stream:
        stream.write('{"stage": "sco')
    costs = read_costs(tmp_path)
    assert costs == Costs({"candidates": 25.5, "scores": 4.5}, 0.0)
    page = render_report(DatasetConfig(), counts, [], costs._replace(usd=0.006))
    body = page.partition("<body>")[2].lstrip()
    assert body.startswith("<h1>10 s, 220 UNet rows and 0.002 USD for each kept pair</h1>")
    assert "candidates 25.5 s, scores 4.5 s" in page


def row(number: int) -> dict[str, Any]:
    """A packed row."""
    pictures = {"original_image": PICTURE, "edited_image": PICTURE}
    return packed_row(candidate(number, "t1"), triple(1), pictures, {"model": "m"})


def readme(digest: str, files: Mapping[str, Contents]) -> dict[str, str]:
    """Write a card of one line."""
    return {"README.md": f"# {len(files)} files {digest}\n"}


def test_packing_replaces_the_folder_or_leaves_it(tmp_path: Path) -> None:
    folder = tmp_path / "packed"
    rows = [("train", row(number)) for number in range(5)] + [("test", row(9))]
    assert pack(rows, folder, shard_rows=2, documents=readme, config="x") == 6
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    train = {f"data/train-0000{number}-of-00003.parquet" for number in range(3)}
    assert names == {"README.md", "manifest.json", "data/test-00000-of-00001.parquet"} | train
    with pytest.raises(DataError, match="no pair was kept"):
        pack([], folder, shard_rows=2, documents=readme, config="x")
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == names
    assert pack(rows[:1], folder, shard_rows=2, documents=readme, config="x") == 1
    assert len(list(folder.rglob("*.parquet"))) == 1 and not list(tmp_path.glob(".*"))


def test_rows_have_the_columns_in_order_a_mask_and_pictures_with_the_mark() -> None:
    made = row(1)
    assert tuple(made) == PACKED_COLUMNS
    for name in ("original_image", "edited_image"):
        assert b"digitalsourcetype/trainedAlgorithmicMedia" in made[name]["bytes"]
        with Image.open(io.BytesIO(made[name]["bytes"])) as image:
            assert image.convert("RGB").tobytes() == Image.new("RGB", (8, 8), "red").tobytes()
    with Image.open(io.BytesIO(made["edit_mask"]["bytes"])) as mask:
        assert (mask.size, mask.mode, mask.getextrema()) == ((8, 8), "L", (0, 0))
    assert json.loads(made["provenance"]) == {"model": "m", "writer": "rules"}


KNOWN = Licenses("cc0-1.0", "apache-2.0", "openrail")
MAKERS = {"versions": ["ip2p 1, torch 2"], "revisions": {"pairs.model": "abc123"}}


def card(counts: Counts, config: DatasetConfig, licenses: Licenses = KNOWN, digest: str = "0123") -> str:
    """Render the card of a data set with pairs for training only."""
    return dataset_card(config, counts, ["train"], digest, licenses=licenses, makers=MAKERS, fingerprint="fedcba")


def test_the_card_tells_how_it_was_made(counts: Counts, make_config: Callable[..., DatasetConfig]) -> None:
    config = make_config("filter.per_kind.color.direction=0.1")
    text = card(counts, config)
    for output in (
        "# 3 edits",
        "| candidates | 11 |",
        "| season | 8 | 0 | 0.0% |",
        "others for color",
        config.scores.clip,
        "edited captions by rules; both",
        "| writer | rules, 2 triples | apache-2.0 |",
        "| made with | ip2p 1, torch 2 |",
        "| revision of pairs.model | abc123 |",
        "| fingerprint of the settings | fedcba |",
        "license: other",
    ):
        assert output in text
    assert re.search(r"path: data/train-\*\.parquet", text) and "data/test" not in text
    assert config.out not in text and "is unknown" not in text


def test_an_unknown_licence_is_told(counts: Counts, make_config: Callable[..., DatasetConfig], tmp_path: Path) -> None:
    config = make_config()
    found = find_licenses(config)
    assert found == Licenses("unknown", "apache-2.0", "unknown") and found.whole == "unknown"
    text = card(counts, config, found)
    assert "licence of the captions and of the model is unknown" in text and "license: unknown" in text
    model = tmp_path / "model"
    model.mkdir()
    (model / "README.md").write_text("---\nlicense: openrail\n---\n# A model\n")
    named = make_config("pack.captions_license=cc-by-4.0", f"pairs.model={model}")
    assert find_licenses(named) == Licenses("cc-by-4.0", "apache-2.0", "openrail")
    bundled = DatasetConfig()
    assert find_licenses(bundled) == Licenses(*["apache-2.0"] * 3) and find_licenses(bundled).whole == "apache-2.0"


def test_croissant_lists_files_and_columns(tmp_path: Path) -> None:
    rows = [("train", row(number)) for number in range(3)] + [("test", row(9))]
    sets = [
        *(RecordSet(name, f"data/{name}-*.parquet", FEATURES) for name in ("train", "test")),
        RecordSet("preferences-train", "preferences/train-*.parquet", PREFERENCE_FEATURES),
        RecordSet("preferences-test", "preferences/test-*.parquet", PREFERENCE_FEATURES),
    ]
    described = functools.partial(croissant, "pairs", description="d", license="cc0-1.0", record_sets=sets)
    pictures = {name: PICTURE if name in PREFERENCE_PICTURES else "x" for name in PREFERENCE_FEATURES}
    more = {"preferences": (PREFERENCE_FEATURES, [("train", pictures)])}
    pack(
        rows, tmp_path / "packed", shard_rows=2, config="x", more=more,
        documents=lambda _, files: {"c.json": described(files=files)},
    )  # fmt: skip
    tmp_path = tmp_path / "packed"
    metadata = json.loads((tmp_path / "c.json").read_text())
    objects = [each for each in metadata["distribution"] if each["@type"] == "cr:FileObject"]
    assert len(objects) == 4
    for each in objects:
        assert each["sha256"] == hash_file(tmp_path / each["contentUrl"])
    assert [each["name"] for each in metadata["recordSet"]] == ["train", "test", "preferences-train"]
    names = [each["@id"] for part in (metadata["distribution"], metadata["recordSet"]) for each in part]
    assert len(set(names)) == len(names)
    assert [each["name"] for each in metadata["recordSet"][2]["field"]] == list(PREFERENCE_FEATURES)
    sets_of_files = {each["@id"]: each["includes"] for each in metadata["distribution"] if "includes" in each}
    for each in metadata["recordSet"]:
        (files,) = {field["source"]["fileSet"]["@id"] for field in each["field"]}
        assert list(tmp_path.glob(sets_of_files[files])), "the files that it names are there"
    fields = metadata["recordSet"][0]["field"]
    assert tuple(each["name"] for each in fields) == PACKED_COLUMNS
    assert [each["dataType"] for each in fields][:3] == ["sc:Text", "sc:ImageObject", "sc:Text"]


def test_a_data_set_that_was_packed_anew_is_read_anew(
    counts: Counts, make_config: Callable[..., DatasetConfig], tmp_path: Path
) -> None:
    rows = [("train", row(number)) for number in range(5)]
    config = make_config()
    for kept in (rows, rows[1:], rows[2:]):
        pack(
            kept, tmp_path / "packed", shard_rows=2, config="x",
            documents=lambda digest, files: {"README.md": card(counts, config, digest=digest)},
        )  # fmt: skip
        read = load_dataset(str(tmp_path / "packed"), split="train", cache_dir=str(tmp_path / "cache"))
        assert read["id"][:] == [each["id"] for _, each in kept]
