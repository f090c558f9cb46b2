"""Scores: means that multiply scene by scene, intervals that cover, tables that hold every figure."""

import numpy as np
import pytest

from ip2p.measuring.tables import Measurement, full_table, kinds_table, overall_table, score, scores_by_method


def row(method: str = "editor", kind: str = "season", success: bool = True, preservation: float = 1.0) -> Measurement:
    return Measurement(
        method=method, scene=0, kind=kind, instruction="make it winter", seed=1, success=success, attributes_kept=0.75,
        layout_kept=0.5, preservation=preservation, psnr=20.0,
    )  # fmt: skip


def test_the_product_is_of_each_scene() -> None:
    mixed = score([row(success=True, preservation=0.0), row(success=False, preservation=1.0)], seed=0)
    assert (mixed.success, mixed.preservation, mixed.product, mixed.low, mixed.high) == (0.5, 0.5, 0, 0, 0)
    assert score([row(preservation=0.4)] * 5, seed=0).product == pytest.approx(0.4)


def test_the_interval_covers_what_it_should() -> None:
    rng, covered = np.random.default_rng(1), 0
    for trial in range(60):
        found = score([row(success=bool(hit)) for hit in rng.random(80) < 0.6], seed=trial)
        assert found.low <= found.product <= found.high
        covered += found.low <= 0.6 <= found.high
    assert covered >= 52


def test_equal_rows_and_seed_give_equal_scores() -> None:
    rows = [row(success=bool(number % 3)) for number in range(30)]
    assert score(rows, seed=4) == score(rows, seed=4)


def test_tables_hold_every_method_and_kind() -> None:
    rows = [
        row(method, kind, success=method == "editor", preservation=0.9)
        for method in ("editor", "copy")
        for kind in ("style", "season", "season")
    ]
    found = scores_by_method(rows, seed=0)
    assert {method: {kind: value.scenes for kind, value in kinds.items()} for method, kinds in found.items()} == {
        "editor": {"all": 3, "style": 1, "season": 2},
        "copy": {"all": 3, "style": 1, "season": 2},
    }
    whole, kinds, full = overall_table(found), kinds_table(found), full_table(found)
    assert "| editor |      3 | 100.0 % |          75.0 % |      50.0 % |       90.0 % | 90.0 % (90.0 %" in whole
    assert "| copy   |      3 |   0.0 %" in whole
    assert [line.split("|")[1].strip() for line in kinds.splitlines()[2:]] == ["season", "style"]
    assert "copy: s x p" in kinds and len(full.splitlines()) == 6
    assert all(len({line.count("|") for line in table.splitlines()}) == 1 for table in (whole, kinds, full))
