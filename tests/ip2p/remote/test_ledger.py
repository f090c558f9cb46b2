"""The ledger: no question is asked twice, and every cost is counted."""

import json
from pathlib import Path

import pytest

from ip2p.errors import BudgetError, DataError
from ip2p.remote.ledger import Answer, Cost, Ledger

MOST = Cost(100, 100, 0.25)


def test_reservations_become_costs_and_answers_stay(tmp_path: Path) -> None:
    path = tmp_path / "new" / "asked.jsonl"
    with Ledger(path) as ledger:
        first, second = ledger.reserve(MOST), ledger.reserve(MOST)
        assert ledger.spent == Cost(200, 200, 0.5)
        ledger.settle(first, Cost(10, 20, 0.01), key="a", text="answer", reason="")
        ledger.settle(second, Cost(), fault="status 429")
        ledger.note("request_format", ["text"])
    with Ledger(path) as again:
        assert again.spent == pytest.approx(Cost(10, 20, 0.01))
        assert again.answers == {"a": Answer("answer")} and again.faults == {"status 429": 1}
        assert again.requests == 2 and again.notes == {"request_format": ["text"]}


def test_what_was_under_way_when_a_run_died_counts_as_spent(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "asked.jsonl", max_usd=0.6)
    ledger.reserve(MOST)
    ledger.close()
    with Ledger(tmp_path / "asked.jsonl", max_usd=0.6) as again:
        assert again.spent == MOST
        again.reserve(MOST)
        with pytest.raises(BudgetError, match=r"0\.6 USD is spent.*triples.max_usd"):
            again.reserve(MOST)
        assert again.requests == 2


def test_tokens_are_limited_too(tmp_path: Path) -> None:
    with Ledger(tmp_path / "asked.jsonl", max_tokens=399) as ledger:
        ledger.reserve(MOST)
        assert not ledger.fits(MOST) and ledger.fits(Cost(100, 99, 100.0))
        with pytest.raises(BudgetError, match="399 tokens"):
            ledger.reserve(MOST)


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_torn_last_line_is_as_if_never_written(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "asked.jsonl"
    with Ledger(path) as ledger:
        ledger.answer("a", Answer("kept"))
        ledger.answer("b", Answer("torn"))
    path.write_bytes(path.read_bytes()[:-cut])
    with Ledger(path) as again:
        assert list(again.answers) == ["a"]
        again.answer("c", Answer("whole"))
    assert [json.loads(line)["key"] for line in path.read_text().splitlines()] == ["a", "c"]


def test_a_damaged_line_is_told(tmp_path: Path) -> None:
    path = tmp_path / "asked.jsonl"
    with Ledger(path) as ledger:
        ledger.answer("a", Answer("kept"))
    path.write_bytes(b"not JSON\n" + path.read_bytes())
    with pytest.raises(DataError, match="line 1 is damaged"):
        Ledger(path)


def test_two_runs_do_not_write_to_one_file(tmp_path: Path) -> None:
    with Ledger(tmp_path / "asked.jsonl"), pytest.raises(DataError, match="another run"):
        Ledger(tmp_path / "asked.jsonl")
    Ledger(tmp_path / "asked.jsonl").close()
