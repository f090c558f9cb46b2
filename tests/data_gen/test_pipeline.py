"""A whole build with tiny random models: its files, and kills, changed settings and bad input."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from datasets import DatasetDict, load_dataset

from ip2p.data_gen import pipeline
from ip2p.data_gen.build_file import load_settings, read_build_file
from ip2p.data_gen.config import DatasetConfig
from ip2p.data_gen.pairs.pack import FEATURES
from ip2p.data_gen.pairs.preferences import FEATURES as PREFERENCE_FEATURES
from ip2p.data_gen.rows import from_png
from ip2p.data_gen.verify import verify
from ip2p.errors import ConfigError, DataError, ModelError
from ip2p.models.backbone import load_backbone, save_backbone
from ip2p.pairs.read import read_pairs
from ip2p.records import PACKED_COLUMNS, Reason
from ip2p.shards import read_shards
from ip2p.train.pairs import open_pairs

ROOT = Path(__file__).parents[2]
MakeConfig = Callable[..., DatasetConfig]

pytestmark = pytest.mark.filterwarnings("ignore:text longer than")


def digest(folder: Path) -> dict[str, str]:
    """Hash every file below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def report_of(out: Path) -> str:
    """Read report.html without its seconds."""
    return re.sub(r"[\d.e-]+ s\b", "", (out / "report.html").read_text())


def quiet(_: str) -> None:
    """Print nothing."""


@pytest.fixture
def load(tmp_path: Path) -> Callable[[Path], DatasetDict]:
    """Call load_dataset with a separate cache."""
    return lambda folder: load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))


def test_a_build_ends_in_a_data_set_and_a_report(make_config: MakeConfig, load: Callable[[Path], DatasetDict]) -> None:
    config, lines = make_config(), []
    summary = pipeline.build(config, say=lines.append)
    out = Path(config.out)
    assert summary.counts.total == 7 * 2 == summary.drawn
    assert summary.unet_rows == 7 * 2 * (3 * 4 - 1) == summary.counts.unet_rows
    assert 0 < summary.counts.pairs < 14
    assert f"kept {summary.counts.pairs} of 14" in lines[-1]
    splits = load(out / "packed")
    rows = [row for split in splits.values() for row in split]
    assert len(rows) == summary.counts.pairs
    for split in splits.values():
        assert tuple(split.column_names) == PACKED_COLUMNS
        assert split.features == FEATURES
    for row in rows:
        assert row["original_image"].size == row["edited_image"].size == (32, 32)
        assert row["original_prompt"] != row["edited_prompt"]
        assert row["sim_direction"] >= config.filter.direction
        assert json.loads(row["provenance"])["clip"] == config.scores.clip
    assert "configs:" in (out / "packed" / "README.md").read_text()
    assert summary.counts.pairs < (out / "report.html").read_text().count("<figure>") <= 14


def test_every_candidate_has_a_status_and_a_reason(make_config: MakeConfig) -> None:
    config = make_config()
    pipeline.build(config, say=quiet)
    decided = list(read_shards(Path(config.out) / "filtered"))
    assert len(decided) == 14
    assert all((row["status"] == "ok") == (row["reason"] == "") for row in decided)


def test_two_builds_have_the_same_bytes(make_config: MakeConfig, tmp_path: Path) -> None:
    for name in ("one", "two"):
        pipeline.build(make_config(f"out={tmp_path / name}"), say=quiet)
    assert digest(tmp_path / "one" / "packed") == digest(tmp_path / "two" / "packed")
    assert report_of(tmp_path / "one") == report_of(tmp_path / "two")
    again = pipeline.build(make_config(f"out={tmp_path / 'one'}"), say=quiet)
    assert again.drawn == 0 and digest(tmp_path / "one" / "packed") == digest(tmp_path / "two" / "packed")


def test_other_thresholds_draw_nothing(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    first = pipeline.build(make_config(), say=quiet)
    monkeypatch.setattr("ip2p.models.backbone.load_backbone", None)
    monkeypatch.setattr("ip2p.measuring.clip.ClipScorer", None)
    every = pipeline.refilter(make_config("filter.direction=-1", "filter.image=-1", "filter.top_k=9"), say=quiet)
    assert every.counts.pairs == 14 > first.counts.pairs
    assert every.counts.total == first.counts.total
    with pytest.raises(DataError, match="other settings.*ip2p dataset filter"):
        pipeline.report(make_config(), say=quiet)
    back = pipeline.build(make_config(), say=quiet)
    assert (back.drawn, back.counts.pairs) == (0, first.counts.pairs)
    pipeline.report(make_config(), say=quiet)


def test_after_triples_a_folder_needs_no_settings_again(make_config: MakeConfig) -> None:
    config = make_config("captions.count=2", "filter.direction=-1")
    pipeline.write_triples(config, say=quiet)
    out = f"out={config.out}"
    assert pipeline.main([out]) == 0
    assert pipeline.refilter(load_settings(None, [out, "filter.top_k=2"]), say=quiet).counts.pairs == 4
    assert pipeline.report(load_settings(None, [out], begun=True), say=quiet).exists()
    page = pipeline.review(load_settings(None, [out], begun=True), 3, say=quiet)
    assert page.name == "review.html" and page.read_text().count('class="pair"') == 3
    assert pipeline.main([out, "pairs.steps=4"]) == 2


@pytest.mark.slow
@pytest.mark.parametrize("change", ["seed=5", "pairs.steps=4", "captions.count=3", "shard_size=3", "pairs.p_max=0.5"])
def test_other_settings_are_refused_on_an_old_folder(make_config: MakeConfig, change: str) -> None:
    pipeline.build(make_config(), say=quiet)
    key = change.partition("=")[0]
    for run in (pipeline.build, pipeline.refilter, pipeline.report):
        with pytest.raises(ConfigError, match=rf"{re.escape(key)} was .* and is .* now\. Give another folder by out="):
            run(make_config(change), say=quiet)


def test_other_captions_of_the_same_name_are_refused(make_config: MakeConfig) -> None:
    config = make_config()
    pipeline.build(config, say=quiet)
    Path(config.captions.source).write_text("a red tractor\n")
    with pytest.raises(ConfigError, match=r"captions.source \(its contents\) was"):
        pipeline.build(config, say=quiet)


def test_where_nothing_is_kept_the_report_tells_why(make_config: MakeConfig) -> None:
    config = make_config("filter.direction=1.5")
    with pytest.raises(DataError, match="no pair was kept"):
        pipeline.build(config, say=quiet)
    assert "low_direction" in (Path(config.out) / "report.html").read_text()
    assert not (Path(config.out) / "packed").exists()


def test_what_the_safety_checker_blocks_is_refused_and_seen_by_nobody(
    make_config: MakeConfig, base_folder: Path, guarded_folder: Path, tmp_path: Path
) -> None:
    base = load_backbone(base_folder)
    base.safety = load_backbone(guarded_folder).safety
    save_backbone(base, tmp_path / "model", pipeline_class="StableDiffusionPipeline", dtype=torch.float32)
    model = f"pairs.model={tmp_path / 'model'}"
    config = make_config(model)
    with pytest.raises(DataError, match="no pair was kept"):
        pipeline.build(config, say=quiet)
    out = Path(config.out)
    assert {row["reason"] for row in read_shards(out / "filtered")} == {"unsafe"}
    assert "unsafe" in (out / "report.html").read_text()
    for row in read_shards(out / "candidates"):
        for column in ("original_image", "edited_image"):
            assert from_png(row[column]).getbbox() is None, "not black"
    free = pipeline.build(make_config(model, "pairs.safety_checker=false", f"out={tmp_path / 'free'}"), say=quiet)
    assert free.counts.pairs and Reason.UNSAFE not in free.counts.candidates


def test_bad_beginnings_leave_nothing(
    make_config: MakeConfig, editor_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ip2p.data_gen.models.best_device", lambda: torch.device("cpu"))
    with pytest.raises(DataError, match="no file of captions"):
        pipeline.build(make_config("captions.source=missing.txt", f"out={tmp_path / 'nowhere'}"), say=quiet)
    with pytest.raises(DataError, match="no data set build"):
        pipeline.refilter(make_config(f"out={tmp_path / 'nowhere'}"), say=quiet)
    with pytest.raises(ModelError, match="no text-to-image model"):
        pipeline.build(make_config(f"pairs.model={editor_folder}", f"out={tmp_path / 'wrong'}"), say=quiet)
    assert not (tmp_path / "nowhere").exists() and not (tmp_path / "wrong" / "packed").exists()
    assert pipeline.main(["pairs.stepps=3"]) == 2
    (tmp_path / "file").touch()
    assert pipeline.main([f"out={tmp_path / 'file' / 'x'}"]) == 2
    with pytest.raises(ConfigError, match="pairs.precision=fp16 is for a GPU"):
        pipeline.build(make_config("pairs.precision=fp16", f"out={tmp_path / 'wrong'}"), say=quiet)
    assert pipeline.build(make_config(f"out={tmp_path / 'wrong'}"), say=quiet).counts.total == 14


def test_killed_twice_it_ends_with_the_same_bytes(settings: list[str], tmp_path: Path) -> None:
    config = tmp_path / "none.yaml"
    config.write_text("{}")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # another number of threads sums in another order

    def start(out: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "data_gen/pipeline.py", "--config", str(config), *settings, f"out={out}"]
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)

    assert start(tmp_path / "whole").wait() == 0
    killed = tmp_path / "killed"
    for last in ("scores/shard-00000.json", "candidates/batches-0000[23]/shard-00000.json"):
        process = start(killed)
        deadline = time.monotonic() + 120
        while not list(killed.glob(last)) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert list(killed.glob("scores/shard-00000.json")) and not (killed / "packed").exists()
    assert start(killed).wait() == 0
    assert digest(killed / "packed") == digest(tmp_path / "whole" / "packed")
    assert report_of(killed) == report_of(tmp_path / "whole")
    assert not [path for path in killed.rglob(".*")]


def test_scores_of_an_earlier_version_are_made_again_and_no_pair_is_drawn_again(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, out = make_config(), Path(make_config().out)
    with monkeypatch.context() as earlier:
        earlier.setattr("ip2p.data_gen.build_folder.SCORES", ("sim_source", "sim_edited", "sim_image", "sim_direction"))
        pipeline.build(config, say=quiet)
    with pytest.raises(DataError, match=r"scores is not there, or was made with other settings\. Run `ip2p dataset bu"):
        pipeline.refilter(make_config("filter.layout_max=0.9"), say=quiet)
    assert read_build_file(out)["filter.layout_max"] is None, "a filter that cannot run leaves no thresholds"
    assert pipeline.build(config, say=quiet).drawn == 0
    scored = list(read_shards(out / "scores"))
    assert any(row["layout"] > 0 for row in scored) and all(0 <= row["changed"] <= 1 for row in scored)
    kept = pipeline.refilter(make_config("filter.layout_max=0.9", "filter.top_k=2"), say=quiet).counts
    assert kept.candidates[Reason.HIGH_LAYOUT] + kept.pairs + kept.candidates[Reason.LOW_DIRECTION] == 14
    assert "layout ≤ 0.9" in (out / "report.html").read_text()


def test_kept_and_refused_siblings_are_preference_pairs(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config("pack.split=0", "filter.direction=0")
    pipeline.build(config, say=quiet)
    packed = Path(config.out) / "packed"
    found = {row["id"]: row for row in read_shards(Path(config.out) / "filtered")}
    read = load_dataset(str(packed), "preferences", cache_dir=str(tmp_path / "cache"))["train"]
    assert len(read) and read.features == PREFERENCE_FEATURES
    pictures = {row["id"]: row for row in read_shards(Path(config.out) / "candidates")}
    for row in read:
        chosen, rejected = found[row["chosen_id"]], found[row["rejected_id"]]
        assert chosen["triple_id"] == rejected["triple_id"] and chosen["status"] == "ok"
        assert row["reason"] == rejected["reason"] not in ("", "not_top_k")
        for column, name, part in (
            ("chosen", "chosen_id", "edited_image"), ("rejected", "rejected_id", "edited_image"),
            ("original_image", "chosen_id", "original_image"),
            ("rejected_original_image", "rejected_id", "original_image"),
        ):  # fmt: skip
            assert row[column].convert("RGB").tobytes() == from_png(pictures[row[name]][part]).tobytes()
    kept = sum(row["status"] == "ok" for row in found.values())
    assert len(open_pairs(packed).train) + len(open_pairs(packed).held_out) == kept
    assert len(list(read_pairs(packed))) == kept
    assert len(load_dataset(str(packed), cache_dir=str(tmp_path / "cache"))["train"]) == kept
    assert [each.faults for each in verify(packed, say=quiet)] == [[]]
    assert "config_name: preferences" in (packed / "README.md").read_text()
    next((packed / "preferences").glob("*.parquet")).unlink()
    with pytest.raises(DataError, match="preferences"):
        verify(packed, say=quiet)
    pipeline.refilter(make_config("pack.split=0", "filter.direction=0", "pack.preferences=false"), say=quiet)
    assert not (packed / "preferences").exists() and "config_name: pref" not in (packed / "README.md").read_text()
