"""Estimates before a build: counts that the build confirms, and rates that are measured or said to be assumed."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ip2p.config import load_config
from ip2p.data_gen import estimate as module
from ip2p.data_gen import pipeline
from ip2p.data_gen.config import DatasetConfig, PairsConfig
from ip2p.data_gen.estimate import estimate, price_of_triples, rows_of_candidate
from ip2p.errors import DataError
from ip2p.records import Caption, content_id

MakeConfig = Callable[..., DatasetConfig]

pytestmark = pytest.mark.filterwarnings("ignore:text longer than")


def test_an_estimate_is_what_the_build_takes_and_writes_nothing(make_config: MakeConfig) -> None:
    config, lines = make_config(), []
    pipeline.estimate(config, say=lines.append)
    assert not Path(config.out).exists()
    found = estimate(config)
    summary = pipeline.build(config, say=lambda _: None)
    assert (found.captions, found.triples, found.candidates) == (7, 7, summary.counts.total)
    assert found.rows == summary.unet_rows and found.packed == 7
    stored = sum(path.stat().st_size for path in (Path(config.out) / "candidates").glob("*.parquet"))
    assert 0.1 * stored < found.candidates * found.rates.candidate_bytes < 2 * stored
    assert found.rates.rows > 0 and "measured on the" in lines[0] and "enough" in lines[0]


def test_rows_follow_guidance_and_scheduler() -> None:
    assert rows_of_candidate(PairsConfig(steps=10, scheduler="dpm", guidance_stop=0.8)) == 36
    assert rows_of_candidate(PairsConfig(steps=100)) == 400
    assert rows_of_candidate(PairsConfig(steps=10, scheduler="heun")) == 4 * 19


def test_the_paper_takes_months_and_more_disk_than_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captions = tmp_path / "captions.jsonl"
    captions.write_text('{"text": "a red barn by a lake"}\n' * 1000)
    monkeypatch.setattr(module, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10**9}))
    config = load_config(
        DatasetConfig, "paper_dataset.yaml", [f"captions.source={captions}", f"out={tmp_path / 'out'}"]
    )
    found = estimate(config, workers=4)
    assert found.rows == 1000 * 100 * 100 * 4
    assert found.hours == pytest.approx(found.rows / 250 / 4 / 3600)
    assert found.peak_bytes == pytest.approx(1000 * 104 * 2 * 1.7 * 512**2)
    said = str(found)
    assert "assumed, since stable-diffusion-v1-5/stable-diffusion-v1-5 is not here" in said and "NOT ENOUGH" in said
    assert "92.7 GB at the peak" in said and "gpt-5-mini" in said


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


def test_captions_that_were_not_brought_are_told_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config(DatasetConfig, "paper_dataset.yaml")
    for run in (estimate, pipeline.build):
        with pytest.raises(DataError, match=r"captions\.jsonl.*captions\.source") as caught:
            run(config)
        assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
