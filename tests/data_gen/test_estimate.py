"""Estimates before a build: counts that the build confirms, and rates that are measured or said to be assumed."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from llm_server import Server

from ip2p.cli import run
from ip2p.config import load_config
from ip2p.data_gen import estimate as module
from ip2p.data_gen import pipeline
from ip2p.data_gen.config import DatasetConfig, PairsConfig
from ip2p.data_gen.estimate import Span, estimate, find_sampler, price_of_triples
from ip2p.data_gen.pairs.draw import plan_tree
from ip2p.data_gen.pairs.scenarios import Sampler, list_scenarios, plan_calls, rows_of_tree, sampler_of_sd1
from ip2p.data_gen.scale.partition import Partition
from ip2p.errors import DataError
from ip2p.records import Caption, Triple, content_id
from ip2p.shards import read_shards

MakeConfig = Callable[..., DatasetConfig]

pytestmark = pytest.mark.filterwarnings("ignore:text longer than")


def test_an_estimate_is_what_the_build_takes_and_writes_nothing(make_config: MakeConfig) -> None:
    config, lines = make_config(), []
    pipeline.estimate(config, say=lines.append)
    assert not Path(config.out).exists()
    found = estimate(config)
    summary = pipeline.build(config, say=lambda _: None)
    total = summary.counts.total
    assert (found.captions, found.triples, found.candidates) == (7, 7, Span(total, total))
    assert found.rows == pytest.approx(Span(*[summary.unet_rows] * 2)) and found.packed == 7
    stored = sum(path.stat().st_size for path in (Path(config.out) / "candidates").glob("*.parquet"))
    assert 0.1 * stored < total * found.rates.candidate_bytes < 2 * stored
    assert found.rates.rows > 0 and "measured on the" in lines[0] and "enough" in lines[0]


def test_rows_follow_guidance_and_scheduler() -> None:
    for settings, rows in (
        ({"steps": 10, "scheduler": "dpm", "guidance_stop": 0.8}, 37),
        ({"steps": 10, "scheduler": "dpm", "guidance_stop": 0.79}, 35),
        ({"steps": 7, "scheduler": "dpm", "guidance_stop": 0.75}, 25),
        ({"steps": 100}, 399),
        ({"steps": 10, "scheduler": "heun"}, 4 * 19 - 1),
        ({"steps": 10, "text_every": 2}, 29),
        ({"steps": 10, "cfg_min": 1, "cfg_max": 1}, 20),
    ):
        pairs = PairsConfig.model_validate(settings)
        assert rows_of_tree([0.5], plan_calls(pairs, sampler_of_sd1()), pairs.steps) == rows
    told = Sampler(sampler_of_sd1().scheduler, takes_scale=True)
    assert [each.branches for each in plan_calls(PairsConfig(steps=4), told)] == [1] * 4, "as in LCM"


def test_guidance_that_stops_takes_the_rows_that_were_said(make_config: MakeConfig) -> None:
    settings = ("pairs.steps=7", "pairs.guidance_start=0.1", "pairs.guidance_stop=0.75", "pairs.scheduler=dpm")
    for more in ("pairs.text_every=1", "pairs.text_every=2", "pairs.scheduler=heun"):
        config = make_config(*settings, more, "filter.direction=-1", f"out={make_config().out}-{more[-1]}")
        found, summary = estimate(config), pipeline.build(config, say=lambda _: None)
        assert found.rows == Span(*[summary.unet_rows] * 2), more
    assert summary.drawn * 2 * 7 < found.rows.most < summary.drawn * 2 * 2 * 13


def test_trees_share_rows_as_in_the_estimate(make_config: MakeConfig) -> None:
    config = make_config("pairs.candidates=5", "pairs.tree=3", "pairs.steps=6", "pairs.batch=3", "filter.direction=-1")
    found, summary = estimate(config), pipeline.build(config, say=lambda _: None)
    assert found.candidates == Span(summary.drawn, summary.drawn) and found.rows.least == found.rows.most
    assert found.rows.most == pytest.approx(summary.unet_rows, rel=0.05) and summary.unet_rows < 0.95 * 35 * 24
    triples = [Triple.model_validate(row) for row in read_shards(Path(config.out) / "triples")]
    planned = [
        plan_tree(each, number, config.pairs, config.seed)[: 5 - number] for each in triples for number in (0, 3)
    ]
    calls = plan_calls(config.pairs, find_sampler(config.pairs.model))
    counted = sum(rows_of_tree([each.candidate.p for each in tree], calls, 6) for tree in planned)
    assert counted == pytest.approx(summary.unet_rows), "to the row for the candidates that were drawn"


def test_estimates_of_trees_follow_the_ranges_of_each_kind() -> None:
    """A tree whose members all share every step takes the rows of one candidate."""
    pairs: dict[str, Any] = {"candidates": 4, "tree": 4, "steps": 10, "p_min": 0, "p_max": 0.2}
    both = {"season": {"p_min": 1, "p_max": 1}, "time": {"p_min": 1, "p_max": 1, "cfg_min": 1, "cfg_max": 1}}

    def rows(**settings: Any) -> tuple[float, float, str]:
        found = list_scenarios(DatasetConfig.model_validate({"pairs": pairs | settings}), sampler_of_sd1())
        return min(each.rows for each in found), max(each.rows for each in found), found[0].name

    plain, season = rows(), rows(p_min=1, p_max=1)
    assert plain[0] == plain[1] > season[0] == season[1] == 10 * 4 - 1
    assert rows(per_kind={"season": both["season"]})[:2] == (season[0], plain[1])
    least, most, name = rows(per_kind=both)
    assert (least, most) == (10 * 2, plain[1]), "one kind has no guidance, either"
    assert "in the ranges of other, or of time, which take less" in name


@pytest.mark.parametrize("direction", ["-1", "1"])
def test_adaptive_sampling_is_within_the_estimate(make_config: MakeConfig, direction: str) -> None:
    """Where every pair passes, or none does, it is the least that was said."""
    adaptive = ("pairs.candidates=8", "pairs.enough=1", "pairs.give_up_below=0.5", "pairs.store_refused=0")
    config = make_config(*adaptive, f"filter.direction={direction}")
    found = estimate(config)
    with contextlib.suppress(DataError):  # no pair is kept
        pipeline.build(config, say=lambda _: None)
    rows = list(read_shards(Path(config.out) / "scores"))
    drawn, unet_rows = len(rows), sum(row["unet_rows"] for row in rows)
    assert found.candidates.least <= drawn <= found.candidates.most == 7 * 8
    assert found.rows.least - 1e-6 <= unet_rows <= found.rows.most
    stored = sum(row["stored"] for row in rows)
    assert found.stored.least <= 2 * stored <= found.stored.most
    assert drawn == (found.candidates.least if direction == "-1" else 7 * 4)
    assert "every try passes, and 1 of a triple are enough" in str(found) and "given up after 4" in str(found)


def test_early_rejection_and_what_is_stored_are_in_the_estimate() -> None:
    base = {"candidates": 10, "steps": 20}
    early = base | {"early_at": 0.25, "early_audit": 0.2, "store_refused": 0.5}
    plain, rejecting = (
        list_scenarios(DatasetConfig.model_validate({"pairs": each, "filter": {"top_k": 2}}), sampler_of_sd1())
        for each in (base, early)
    )
    assert [each.figures for each in plain] == [pytest.approx((10, 790, 2 * 2 + 8 + 2 * 8))]
    assert rejecting[0].figures == pytest.approx((10, 790, 2 * 2 + 4 + 2 * 4))
    assert rejecting[1].figures == pytest.approx((10, 10 * (0.2 * 79 + 0.8 * 19), 5))


def test_a_partition_takes_its_share(make_config: MakeConfig, server: Server) -> None:
    config = make_config("triples.writer=openai", "triples.model=m", f"triples.base_url={server.url}")
    whole = estimate(config)
    shares = [estimate(config, partition=Partition(number, 3)) for number in range(3)]
    assert [each.captions for each in shares] == [3, 2, 2], "shards of 2, 2, 2 and 1 captions"
    for name in ("candidates", "rows", "stored"):
        assert sum(getattr(each, name).most for each in shares) == pytest.approx(getattr(whole, name).most)
    assert "partition 1 of 3 has 2 of them" in str(shares[1])
    assert "by the run that writes the triples" in shares[1].writer and not server.requests


def test_the_paper_takes_months_and_more_disk_than_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captions = tmp_path / "captions.jsonl"
    captions.write_text('{"text": "a red barn by a lake"}\n' * 1000)
    monkeypatch.setattr(module, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10**9}))
    config = load_config(
        DatasetConfig, "paper_dataset.yaml", [f"captions.source={captions}", f"out={tmp_path / 'out'}"]
    )
    found = estimate(config, workers=4)
    assert found.rows == pytest.approx(Span(*[1000 * 100 * (100 * 4 - 1)] * 2))
    assert found.hours == pytest.approx(found.rows * (1 / 250 / 4 / 3600))
    preferences = 2 * 96  # both pictures of both siblings
    assert found.peak_bytes.most == pytest.approx(1000 * (104 + preferences) * 2 * 1.7 * 512**2)
    said = str(found)
    assert "assumed, since stable-diffusion-v1-5/stable-diffusion-v1-5 is not here" in said and "NOT ENOUGH" in said
    assert "264 GB at the peak" in said and "gpt-5-mini" in said


def test_the_price_grows_with_captions_and_halves_in_batches() -> None:
    captions = [Caption(id=content_id(text), text=text, source="test") for text in ["a barn", "a dog"] * 200]

    def usd(**settings: object) -> float:
        given = {"writer": "openai", "model": "gpt-5-mini"} | settings
        config = DatasetConfig.model_validate({"triples": given})
        return float(price_of_triples(config, captions).split(" USD")[0].split()[-1])

    assert usd() == pytest.approx(2 * usd(writer="openai-batch"), abs=0.02) and usd() > 0
    assert "0 USD" in price_of_triples(DatasetConfig(), captions)


def test_the_paper_and_the_code_differ_in_one_threshold() -> None:
    paper, code = (load_config(DatasetConfig, f"{name}_dataset.yaml").model_dump() for name in ("paper", "code"))
    assert (paper["filter"].pop("image"), code["filter"].pop("image")) == (0.75, 0.7)
    assert (paper.pop("out"), code.pop("out")) == ("data/paper", "data/code")
    assert paper == code


def test_captions_that_were_not_brought_are_counted_by_the_config(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "try_to_load_from_cache", lambda *_: None)
    assert run(["dataset", "build", "--config", "paper_dataset.yaml", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "there is no file of captions captions.jsonl: 454445 are assumed, as captions.count says" in said
    assert "at most 454445 triples of 454445 captions, and 45444500 candidates" in said
    with pytest.raises(DataError, match=r"captions\.jsonl.*captions\.source") as caught:
        pipeline.build(load_config(DatasetConfig, "paper_dataset.yaml"))
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
