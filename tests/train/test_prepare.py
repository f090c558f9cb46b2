"""What a run is made of, before it is trained."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ip2p.config import load_config
from ip2p.train.config import FinetuneConfig
from ip2p.train.estimate import dry_run
from ip2p.train.pairs import open_pairs
from ip2p.train.prepare import count_steps


@pytest.mark.parametrize(("candidates", "steps"), [("all", 8), ("one", 3)])
def test_a_pass_has_all_pairs_or_one_of_each_triple(pairs_folder: Path, candidates: str, steps: int) -> None:
    pairs = open_pairs(pairs_folder)
    pairs = pairs._replace(triples=[str(row % 7) for row in range(20)])
    asked = load_config(FinetuneConfig, None, ["epochs=1.5", "batch=2", "accumulation=2", f"candidates={candidates}"])
    assert count_steps(asked, pairs, processes=1, say=lambda _: None).steps == steps
    assert count_steps(asked, pairs, processes=2, say=lambda _: None).steps == -(-steps // 2)


def test_a_dry_run_counts_the_steps_of_epochs(tiny_base: Path, tmp_path: Path, make_pairs: Callable[..., Path]) -> None:
    said: list[str] = []
    settings = [f"base={tiny_base}", f"dataset={make_pairs(tmp_path, 21)}", "epochs=3", "batch=4"]
    dry_run(load_config(FinetuneConfig, None, settings), said.append)
    assert any("60 samples in 15 steps" in line for line in said)
