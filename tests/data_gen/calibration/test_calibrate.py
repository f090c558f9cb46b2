"""Calibration of a finished build, whose pairs are fine where their pictures are green."""

import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
import yaml
from PIL import Image

from ip2p.config import load_config
from ip2p.data_gen import pipeline, rows
from ip2p.data_gen.build_folder import BuildFolder
from ip2p.data_gen.calibration.calibrate import halves
from ip2p.data_gen.calibration.labels import read_marks, to_examples
from ip2p.data_gen.config import DatasetConfig
from ip2p.data_gen.rows import FilteredShard
from ip2p.errors import ConfigError, DataError
from ip2p.measuring.verdicts import label_pairs
from ip2p.records import Candidate, Caption, Reason, Triple, content_id
from ip2p.shards import write_shard
from ip2p.storybook.judge import Judge

TRIPLES, SHARDS = 200, 4
KINDS = ("color", "season")


def made_up_rows(index: int) -> tuple[list[Caption], list[Triple], list[Candidate], list[bool]]:
    """Captions, triples, two candidates of each, and whether these are fine: mostly where direction is above 0.5."""
    rng, size = random.Random(index), TRIPLES // SHARDS
    captions = [Caption(id=f"c{index}-{k}", text=f"barn {index}-{k}", source="test") for k in range(size)]
    triples = [
        Triple(id=f"t{each.id}", caption_id=each.id, caption=each.text, instruction="make it winter",
               edited_caption=f"{each.text} in winter", kind=KINDS[k % 2], writer="rules")
        for k, each in enumerate(captions)
    ]  # fmt: skip
    candidates, fine = [], []
    for triple in triples:
        for number in range(2):
            scores = {f"sim_{name}": rng.random() for name in ("source", "edited", "image", "direction")}
            kept = (
                {"status": "ok"} if scores["sim_direction"] > 0.2 else {"status": "refused", "reason": "low_direction"}
            )
            plan = {"id": content_id(triple.id, str(number)), "triple_id": triple.id, "seed": 0, "p": 0, "cfg": 1}
            candidates.append(Candidate.model_validate(plan | {"steps": 1, "layout": rng.random()} | scores | kept))
            fine.append(rng.random() < (0.95 if scores["sim_direction"] > 0.5 else 0.2))
    return captions, triples, candidates, fine


def picture(fine: bool) -> dict[str, object]:
    """A green picture of a fine pair, and a red one of another."""
    return rows.to_png(Image.new("RGB", (8, 8), "green" if fine else "red"))


@pytest.fixture
def config(tmp_path: Path) -> DatasetConfig:
    """The config of the build, all of whose stages are written."""
    config = load_config(DatasetConfig, None, [f"out={tmp_path}", f"shard_size={TRIPLES // SHARDS}"])
    folder = BuildFolder(config, {})
    with folder.claim():
        for index in range(SHARDS):
            captions, triples, candidates, fine = made_up_rows(index)
            drawn = [
                {**row, "unet_rows": 4, "original_image": picture(label), "edited_image": picture(label)}
                for row, label in zip(rows.to_rows(candidates), fine, strict=True)
            ]
            for stage, made, schema in (
                ("captions", rows.to_rows(captions), rows.CAPTION_SCHEMA),
                ("triples", rows.to_rows(triples), rows.triple_schema(config.triples)),
                ("candidates", drawn, rows.CANDIDATE_FEATURES),
                ("filtered", drawn, rows.CANDIDATE_SCHEMA),
            ):
                write_shard(folder.stage_folder(stage), index, made, schema=schema, config=folder.fingerprint(stage))
    return config


def by_color(
    captions: Sequence[tuple[str, str]], pairs: Sequence[tuple[Image.Image, Image.Image]]
) -> list[bool | None]:
    """Label by the colour of the second picture."""
    assert len(captions) == len(pairs) and all(after.startswith(before) for before, after in captions)
    return [edited.getpixel((0, 0)) == (0, 128, 0) for _, edited in pairs]


def write_marks(path: Path, count: int = 10_000, *more: str) -> Path:
    """Write the labels as the review page does."""
    made = [pair for index in range(SHARDS) for pair in zip(*made_up_rows(index)[2:], strict=True)]
    lines = [f"{each.id},{'good' if fine else 'bad'}" for each, fine in made[:count]]
    path.write_text("\n".join(["id,label", *lines, *more]) + "\n")
    return path


def silent(_: str) -> None:
    """Print nothing."""


def test_it_writes_thresholds_that_keep_the_wanted_precision(config: DatasetConfig) -> None:
    lines = list[str]()
    found = pipeline.calibrate(config, by_color, 0.9, say=lines.append)
    assert found.reached and found.labels == 2 * TRIPLES
    assert found.measured.low <= 0.95 and found.measured.share > 0.85 > 0.7 > found.before.share
    assert "of the kept pairs are fine" in lines[-1]
    out = Path(config.out)
    written = yaml.safe_load((out / "calibration.yaml").read_text())
    assert written["filter"] == found.fragment() and 0.4 < written["filter"]["direction"] < 0.6
    assert DatasetConfig.model_validate(written).filter.direction == written["filter"]["direction"]
    page = (out / "calibration.html").read_text()
    assert page.count("<svg") == 1 + 9 * (1 + len(KINDS)) and "direction ≥" in page
    assert all(f"<h3>{kind}</h3>" in page for kind in KINDS)


def test_a_judge_that_does_not_know_the_captions_is_refused(config: DatasetConfig) -> None:
    """The few that it knows would speak for all others."""
    known = iter(range(10_000))

    def knows_few(
        captions: Sequence[tuple[str, str]], pairs: Sequence[tuple[Image.Image, Image.Image]]
    ) -> list[bool | None]:
        return [fine if next(known) % 2 else None for fine in by_color(captions, pairs)]

    with pytest.raises(DataError, match=r"knows storybook's edits only.*'barn .*--labels FILE") as told:
        pipeline.calibrate(config, knows_few, 0.9, say=silent)
    assert "\n" not in str(told.value) and not (Path(config.out) / "calibration.yaml").exists()


def test_storybooks_judge_labels_no_captions_of_others(config: DatasetConfig) -> None:
    with pytest.raises(DataError, match="--labels FILE"):
        pipeline.calibrate(config, partial(label_pairs, Judge.from_pretrained()), 0.9, say=silent)


def test_a_persons_labels_give_the_same_as_equal_ones_of_a_function(config: DatasetConfig, tmp_path: Path) -> None:
    by_hand = pipeline.calibrate(config, write_marks(tmp_path / "labels.csv"), 0.9, say=silent)
    assert by_hand.fragment() == pipeline.calibrate(config, by_color, 0.9, say=silent).fragment()
    fewer = pipeline.calibrate(config, by_color, 0.9, count=300, say=silent)
    assert fewer.labels == 300


def test_what_cannot_be_reached_is_said_and_the_nearest_is_written(config: DatasetConfig) -> None:
    lines = list[str]()
    found = pipeline.calibrate(config, by_color, 0.999, say=lines.append)
    assert not found.reached and "out of reach" in lines[-1]
    assert "# 99.9% fine pairs are out of reach" in (Path(config.out) / "calibration.yaml").read_text()


def test_both_halves_are_whole_triples() -> None:
    made = made_up_rows(0)
    labels = {each.id: fine for each, fine in zip(*made[2:], strict=True)}
    first, second = halves(to_examples([FilteredShard(made[1], made[2], 0)], labels, "test"))
    assert not set(first.groups) & set(second.groups) and len(first) + len(second) == 100
    assert min(len(first), len(second)) > 30


def test_each_label_counts_as_many_candidates_as_it_stands_for() -> None:
    made = made_up_rows(0)
    kept = [each for each in made[2] if each.status == "ok"]
    refused = [each for each in made[2] if each.status != "ok"]
    candidates = [*kept, *refused * 20]
    candidates = [each.model_copy(update={"id": f"k{number}"}) for number, each in enumerate(candidates)]
    labelled = [*candidates[: len(kept)], *candidates[-len(kept) :]]
    labels = {each.id: each.status == "ok" for each in labelled}
    examples = to_examples([FilteredShard(made[1], candidates, 0)], labels, "test")
    share = examples.weights[examples.fine].sum() / examples.weights.sum()
    assert share == pytest.approx(len(kept) / len(candidates))


def test_unsafe_pairs_are_no_examples() -> None:
    made = made_up_rows(0)
    unsafe = [made[2][0].model_copy(update={"status": "refused", "reason": Reason.UNSAFE}), *made[2][1:]]
    labels = {each.id: fine for each, fine in zip(unsafe[1:], made[3][1:], strict=True)}
    with pytest.raises(DataError, match="has 99 labels"):
        to_examples([FilteredShard(made[1], unsafe, 0)], labels, "test")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,label\nx,good\nx,bad\n", r"calls x both good and bad \(line 3\)"),
        ("id,label\nx,fine\n", r"line 2 of .* is no id with the label good or bad"),
        ("name\nx\n", "line 2 of .* is no id"),
        ("id,label\n\xff,good\n", "cannot read the labels"),
    ],
)
def test_bad_files_of_labels_are_told(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "labels.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=message):
        read_marks(tmp_path / "labels.csv")
    with pytest.raises(DataError, match="cannot read the labels"):
        read_marks(tmp_path / "missing.csv")


def test_too_few_and_foreign_labels_are_told(config: DatasetConfig, tmp_path: Path) -> None:
    few = write_marks(tmp_path / "few.csv", 37)
    with pytest.raises(DataError, match=r"few.csv has 37 labels, \d+ of them good; .* at least 100, 20 of each"):
        pipeline.calibrate(config, few, 0.9, say=silent)
    foreign = write_marks(tmp_path / "foreign.csv", 400, "elsewhere,good")
    with pytest.raises(DataError, match="1 of 401 labels of .*, such as elsewhere, belong to no candidate"):
        pipeline.calibrate(config, foreign, 0.9, say=silent)
    with pytest.raises(DataError, match="the judge knows storybook's edits only"):
        pipeline.calibrate(config, lambda captions, pairs: [None] * len(pairs), 0.9, say=silent)
    with pytest.raises(ConfigError, match="the precision 95 is not between 0 and 1"):
        pipeline.calibrate(config, by_color, 95.0, say=silent)
