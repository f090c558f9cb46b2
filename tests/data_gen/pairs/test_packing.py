"""What packing makes of kept pairs: inverse pairs and near copies, counted."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from datasets import load_dataset

from ip2p.config import load_config
from ip2p.data_gen import pipeline
from ip2p.data_gen.config import DatasetConfig
from ip2p.data_gen.pairs.packing import PACKING_FILE, Packing, PackingCounts, read_packing
from ip2p.data_gen.rows import to_png
from ip2p.data_gen.verify import verify
from ip2p.errors import ConfigError, DataError
from ip2p.records import Candidate, Reason, Triple
from ip2p.shards import read_shards
from ip2p.storybook.edits import evaluation_cases
from ip2p.storybook.render import render

MakeConfig = Callable[..., DatasetConfig]
pytestmark = pytest.mark.filterwarnings("ignore:text longer than")


def quiet(_: str) -> None:
    """Print nothing."""


def test_a_build_packs_inverse_pairs_beside_their_own(make_config: MakeConfig, tmp_path: Path) -> None:
    lines: list[str] = []
    summary = pipeline.build(make_config("pack.inverse=true", "filter.direction=-1"), say=lines.append)
    out, packed = Path(make_config().out), Path(make_config().out) / "packed"
    splits = load_dataset(str(packed), cache_dir=str(tmp_path / "cache"))
    rows = {row["id"]: (split, row) for split, found in splits.items() for row in found}
    back = [(split, row) for split, row in rows.values() if row["inverse_of"]]
    counts = read_packing(packed)
    assert len(rows) == summary.counts.pairs + len(back) and len(back) == counts.inverses[""] > 0
    assert counts.inverses.total() == summary.counts.pairs > counts.inverses[""]
    triples = {each["id"]: each for each in read_shards(out / "triples")}
    for split, row in back:
        other, pair = rows[row["inverse_of"]]
        assert split == other
        for ours, theirs in (("original_image", "edited_image"), ("edited_image", "original_image")):
            assert row[ours].tobytes() == pair[theirs].tobytes()
        assert row["edit_prompt"] in {each["inverse"] for each in triples.values()}
    text = (packed / "README.md").read_text()
    assert f"| inverse pairs | {len(back)}, in addition" in text and "no_inverse" in text
    assert "no_inverse" in (out / "report.html").read_text() and any(str(len(back)) in line for line in lines)
    assert [each.faults for each in verify(packed, say=quiet)] == [[]]
    with pytest.raises(DataError, match="no pair was kept"):
        pipeline.refilter(make_config("pack.inverse=true", "filter.direction=1"), say=quiet)
    assert "inverse pairs" not in (out / "report.html").read_text(), "those are of the filter before"
    pipeline.refilter(make_config("filter.direction=-1"), say=quiet)
    plain = list(load_dataset(str(packed), cache_dir=str(tmp_path / "cache2")).values())
    assert sum(map(len, plain)) == summary.counts.pairs
    assert "inverse pairs" not in (packed / "README.md").read_text() + (out / "report.html").read_text()
    pipeline.report(make_config("filter.direction=-1"), say=quiet)


def test_language_models_have_to_be_asked_for_the_way_back_before() -> None:
    asked = ["triples.writer=openai", "triples.model=m", "pack.inverse=true"]
    with pytest.raises(ConfigError, match="triples.ask_inverse=true"):
        load_config(DatasetConfig, None, asked)
    load_config(DatasetConfig, None, [*asked, "triples.ask_inverse=true"])


def kept(number: int, triple: str) -> tuple[Candidate, Triple]:
    """Make a candidate and its triple."""
    caption = f"a barn {triple}"
    made = Triple(
        id=triple, caption_id=triple, caption=caption, instruction="x", edited_caption="y", kind="add", writer="rules"
    )
    return Candidate(id=f"{number:04x}", triple_id=triple, seed=number, p=0.5, cfg=3.0, steps=3), made


@pytest.mark.parametrize("what", ["keep", "refuse"])
def test_near_copies_in_other_triples_are_counted_and_refused_if_wanted(what: str, tmp_path: Path) -> None:
    scenes = evaluation_cases(3, seed=6)
    pictures = [(render(case.scene), render(case.target)) for case in scenes]
    near = [each.resize((254, 254)).resize((256, 256)) for each in pictures[0]]
    packing = Packing(load_config(DatasetConfig, None, [f"pack.near_copies={what}"]), {})
    given = [
        ("a", pictures[0]), ("a", pictures[0]), ("b", pictures[1]), ("c", near), ("d", (near[0], pictures[2][1])),
        ("e", (pictures[2][0], near[1])),
    ]  # fmt: skip
    packed = []
    for number, (triple, (before, after)) in enumerate(given):
        images = {"original_image": to_png(before), "edited_image": to_png(after)}
        packed += [row["id"] for row in packing.rows(*kept(number, triple), images)]
    counts = packing.counts
    assert counts.originals == {"0003": "0000", "0004": "0000"}
    assert counts.edited == {"0003": "0000", "0005": "0000"} and counts.both == {"0003": "0000"}
    assert counts.refused == (["0003"] if what == "refuse" else [])
    assert packed == [f"{number:04x}" for number in range(6) if what == "keep" or number != 3]
    assert "both 1" in counts.facts()["near copies"]
    levels = {"kept pairs": Counter({Reason.OK: 5, Reason.NEAR_COPY: 1})} if what == "refuse" else {}
    assert counts.levels(6) == levels and counts.pairs(6) == len(packed)
    (tmp_path / PACKING_FILE).write_text(counts.to_json())
    assert read_packing(tmp_path) == counts
    for damaged in ("", "[]", "{}", '{"inverses": {"of mine": 1}}'):
        (tmp_path / PACKING_FILE).write_text(damaged)
        assert read_packing(tmp_path) == PackingCounts()
    assert json.loads(counts.to_json())["inverses"] == {}


def test_nothing_is_told_where_there_is_nothing(tmp_path: Path) -> None:
    assert read_packing(tmp_path) == PackingCounts() and not PackingCounts().facts()
    assert PackingCounts(inverses=Counter({"": 2})).facts() == {"inverse pairs": "2, in addition to the pairs kept"}
