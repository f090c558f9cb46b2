"""A shard of candidates: no more tries than needed, no more pictures than kept, and no more than a batch lost."""

import functools
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ip2p.data_gen import pipeline
from ip2p.data_gen.config import DatasetConfig
from ip2p.data_gen.pairs.draw import PairMaker
from ip2p.data_gen.pairs.scores import Scorers
from ip2p.data_gen.pairs.shard import ShardDrawer, Tools
from ip2p.data_gen.rows import CANDIDATE_FEATURES
from ip2p.measuring.clip import ClipScorer
from ip2p.models.inference import load_for_inference
from ip2p.records import AUDIT, Reason, Triple, in_share
from ip2p.shards import read_shard, read_shards, write_shard

MakeConfig = Callable[..., DatasetConfig]

pytestmark = pytest.mark.filterwarnings("ignore:text longer than")


def quiet(_: str) -> None:
    """Print nothing."""


def read(config: DatasetConfig, stage: str) -> dict[str, dict[str, Any]]:
    """Return the rows of a stage by id."""
    return {row["id"]: row for row in read_shards(Path(config.out) / stage)}


def test_tries_end_where_a_triple_has_enough(make_config: MakeConfig, tmp_path: Path) -> None:
    every = make_config("pairs.candidates=6")
    pipeline.build(every, say=quiet)
    few = make_config("pairs.candidates=6", "pairs.enough=1", f"out={tmp_path / 'few'}")
    summary = pipeline.build(few, say=quiet)
    scored, wanted = read(few, "scores"), read(every, "scores")
    assert summary.drawn == len(scored) < len(wanted) == 7 * 6
    assert summary.counts.pairs == summary.counts.served == pipeline.build(every, say=quiet).counts.served
    for name, row in scored.items():
        other = {key: value for key, value in wanted[name].items() if not key.startswith("sim_")}
        assert other == {key: row[key] for key in other}, "the same candidate, whatever else is drawn"
        assert row["sim_direction"] == pytest.approx(wanted[name]["sim_direction"], abs=1e-2)
    lines = list[str]()
    pipeline.refilter(
        make_config("pairs.candidates=6", "pairs.enough=1", f"out={few.out}", "filter.top_k=3"), say=lines.append
    )
    assert f"filtered: {len(scored)} candidates" in lines, "those that there are, and not those that were planned"
    pipeline.refilter(few, say=quiet)
    decided = read(few, "filtered")
    for triple in {row["triple_id"] for row in decided.values()}:
        tries = [row for row in decided.values() if row["triple_id"] == triple]
        assert len(tries) == 6 or [row["status"] for row in tries].count("ok") == 1


def test_pictures_are_stored_only_where_they_are_needed(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config("pairs.store_refused=0")
    pipeline.build(config, say=quiet)
    kept = {name for name, row in read(config, "filtered").items() if row["status"] == "ok"}
    assert set(read(config, "candidates")) == kept
    assert {name for name, row in read(config, "scores").items() if row["stored"]} == kept
    assert len(read(config, "scores")) == 14
    assert not list((Path(config.out) / "candidates").glob("batches-*"))
    half = make_config("pairs.store_refused=0.5", f"out={tmp_path / 'half'}")
    pipeline.build(half, say=quiet)
    assert kept < set(read(half, "candidates")) < set(read(half, "scores"))


def test_hopeless_pairs_are_drawn_no_further_and_the_audited_are(make_config: MakeConfig, tmp_path: Path) -> None:
    early = (
        "pairs.candidates=6",
        "pairs.steps=4",
        "pairs.early_at=0.5",
        "pairs.early_margin=0",
        "filter.direction=0.1",
    )
    whole, some = (
        make_config(*early, f"pairs.early_audit={share}", f"out={tmp_path / share}") for share in ("1", "0.4")
    )
    counts = {share: pipeline.build(config, say=quiet).counts for share, config in (("1", whole), ("0.4", some))}
    assert Reason.REJECTED_EARLY not in counts["1"].candidates and counts["0.4"].candidates[Reason.REJECTED_EARLY] > 3
    assert counts["0.4"].unet_rows < counts["1"].unet_rows
    every, found = read(whole, "filtered"), read(some, "filtered")
    assert {row["early"] for row in every.values()} == {"hopeful", "hopeless"}
    for name, row in found.items():
        assert row["early"] == every[name]["early"]
        rejected = row["early"] == "hopeless" and not in_share(name, 0.4, AUDIT)
        assert (row["reason"] == Reason.REJECTED_EARLY) == rejected
        assert rejected or row["sim_direction"] == pytest.approx(every[name]["sim_direction"], abs=1e-2)
    assert "rejected early" in (tmp_path / "0.4" / "report.html").read_text()


def test_looser_thresholds_say_what_was_not_stored(make_config: MakeConfig) -> None:
    base, lines = make_config("pairs.store_refused=0"), list[str]()
    kept = pipeline.build(base, say=quiet).counts.pairs
    loose = make_config("pairs.store_refused=0", "filter.direction=-1", "filter.image=-1", "filter.top_k=9")
    counts = pipeline.refilter(loose, say=lines.append).counts
    assert (counts.pairs, counts.candidates[Reason.NOT_STORED]) == (kept, 14 - kept)
    assert any(f"{14 - kept} pairs within these thresholds" in line and "pairs.store_refused" in line for line in lines)
    again = pipeline.build(loose, say=quiet)
    assert again.drawn == 0, "thresholds may change after drawing"
    assert pipeline.build(base, say=quiet).counts.pairs == kept


def test_what_earlier_versions_drew_is_scored_and_not_drawn_again(make_config: MakeConfig) -> None:
    config = make_config()
    first = pipeline.build(config, say=quiet)
    for path in (Path(config.out) / "scores").glob("*.json"):
        path.write_text(path.read_text().replace(json.loads(path.read_text())["config"], "0123456789abcdef"))
    scored = read(config, "scores")
    again = pipeline.build(config, say=quiet)
    assert again.drawn == 0 and again.counts.pairs == first.counts.pairs and read(config, "scores") == scored


def make_drawer(config: DatasetConfig, folder: Path) -> ShardDrawer:
    """Make a shard of two triples."""
    texts = {"caption_id": "c", "instruction": "b", "kind": "time", "writer": "rules"}
    triples = [
        Triple.model_validate(texts | {"id": name, "caption": f"a red barn {name}", "edited_caption": f"a barn {name}"})
        for name in ("a", "b")
    ]
    return ShardDrawer(triples, config, config.filter, folder, "fingerprint")


def draw_once(
    config: DatasetConfig, folder: Path, *, stop_after: int | None = None, overlap: bool | None = None
) -> tuple[list[dict[str, Any]], list[bool]]:
    """Draw a shard of two triples; returns all rows with pictures, and of each batch whether it was drawn just now."""
    shard, drawn = make_drawer(config, folder), list[bool]()

    def after_batch(_: Sequence[dict[str, Any]], just_now: bool) -> None:
        drawn.append(just_now)
        if len(drawn) == stop_after:
            raise ConnectionAbortedError

    made = shard.draw(functools.partial(open_tools, config), after_batch=after_batch, overlap=overlap)
    stored = list(shard.stored())
    assert [row["id"] for row in made] == [row["id"] for row in stored]
    return stored, drawn


@functools.cache
def open_tools_of(model: str, clip: str, config: str) -> Tools:
    """Load the models once for all tests."""
    settings = DatasetConfig.model_validate_json(config)
    return Tools(
        PairMaker(load_for_inference(model, want="base"), settings.pairs), Scorers(ClipScorer.from_pretrained(clip))
    )


def open_tools(config: DatasetConfig) -> Tools:
    """Load the models of a config."""
    return open_tools_of(config.pairs.model, config.scores.clip, config.model_dump_json())


@pytest.mark.parametrize("settings", [["pairs.candidates=4"], ["pairs.candidates=5", "pairs.enough=3"]])
def test_no_more_than_a_batch_is_lost_and_nothing_changes(
    make_config: MakeConfig, tmp_path: Path, settings: list[str]
) -> None:
    config = make_config(*settings, "pairs.batch=2", "pairs.steps=1")
    whole, drawn = draw_once(config, tmp_path / "whole")
    assert all(drawn) and len(drawn) >= 3
    for stop in (1, len(drawn) - 1):
        folder = tmp_path / str(stop)
        with pytest.raises(ConnectionAbortedError):
            draw_once(config, folder, stop_after=stop)
        rest, just_now = draw_once(config, folder)
        assert rest == whole
        assert just_now == [False] * stop + [True] * (len(drawn) - stop)


@pytest.mark.parametrize("overlap", [False, True])
def test_seconds_of_sessions_that_were_killed_count_as_their_rows_do(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overlap: bool
) -> None:
    config = make_config("pairs.candidates=4", "pairs.batch=2", "pairs.steps=1")
    open_tools(config)
    clock = itertools.count()
    ticks = SimpleNamespace(monotonic=lambda: float(next(clock)))
    monkeypatch.setattr("ip2p.data_gen.pairs.shard.time", ticks)
    for stop in (1, 3):  # each session stores one batch more at least, and is killed
        with pytest.raises(ConnectionAbortedError):
            draw_once(config, tmp_path, stop_after=stop, overlap=overlap)
    shard = make_drawer(config, tmp_path)
    made = shard.draw(functools.partial(open_tools, config), after_batch=lambda *_: None, overlap=overlap)
    assert len(made) == 8 and shard.seconds == 4, "a second for each of the four batches, whoever drew it"
    again = make_drawer(config, tmp_path)
    again.draw(functools.partial(open_tools, config), after_batch=lambda *_: None)
    assert again.seconds == 4
    assert not any("seconds" in row for row in [*made, *shard.stored()])


def test_batches_of_an_earlier_version_go_on(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config("pairs.candidates=4", "pairs.batch=2", "pairs.steps=1")
    whole, _ = draw_once(config, tmp_path)
    for index in range(4):
        found = [{k: v for k, v in row.items() if k != "seconds"} for row in read_shard(tmp_path, index)]
        write_shard(tmp_path, index, found, schema=CANDIDATE_FEATURES, config="fingerprint")
    again, just_now = draw_once(config, tmp_path)
    assert again == whole and not any(just_now)


def test_storing_beside_drawing_changes_nothing(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config("pairs.candidates=3", "pairs.batch=2", "pairs.steps=1")
    apart, _ = draw_once(config, tmp_path / "apart", overlap=False)
    beside, _ = draw_once(config, tmp_path / "beside", overlap=True)
    assert apart == beside
    (tmp_path / "beside" / "shard-00001.json").unlink()
    again, just_now = draw_once(config, tmp_path / "beside", overlap=True)
    assert again == apart and just_now.count(True) == 1


def test_writing_triples_again_keeps_the_thresholds_of_drawing(make_config: MakeConfig) -> None:
    config = make_config("pairs.enough=1")
    pipeline.build(config, say=quiet)
    other = make_config("pairs.enough=1", "filter.direction=-1")
    pipeline.refilter(other, say=quiet)
    recorded = json.loads((Path(config.out) / "build.json").read_text())["drawn_for"]
    assert recorded["direction"] == config.filter.direction
    pipeline.write_triples(other, say=quiet)
    assert json.loads((Path(config.out) / "build.json").read_text())["drawn_for"] == recorded
    assert pipeline.build(other, say=quiet).drawn == 0


def test_thresholds_are_recorded_where_drawing_began_without_any(make_config: MakeConfig) -> None:
    config = make_config("pairs.enough=1")
    batches = Path(config.out) / "candidates" / "batches-00000"
    pipeline.write_triples(config, say=quiet)
    batches.mkdir(parents=True)
    pipeline.build(config, say=quiet)
    assert json.loads((Path(config.out) / "build.json").read_text())["drawn_for"]["top_k"] == 1
