"""Pairs judged by a vision model on a loopback server."""

import base64
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from llm_server import MODEL, Request, Server, ServerReply, completion, failure
from PIL import Image

from ip2p.config import load_config
from ip2p.data_gen import pipeline
from ip2p.data_gen.config import DatasetConfig
from ip2p.data_gen.pairs.judge import price_of_judging
from ip2p.errors import ConfigError, DataError, WriterError
from ip2p.manifest import verify_dataset
from ip2p.records import Reason
from ip2p.remote.ledger import JUDGE_LEDGER, Ledger, read_spending
from ip2p.shards import read_shards

pytestmark = pytest.mark.filterwarnings("ignore:text longer")

KEY = "sk-CANARY-0123456789"
GOOD = {"reason": "fine", "edit": 0.9, "kept": 0.8, "clean": 1.0}
BAD = GOOD | {"reason": "the edit is missing", "edit": 0.1}
CAPTIONS = (
    "a red barn", "a blue castle", "a dog on a hill", "a green car", "two cats", "a white house",
)  # fmt: skip
PRICE = ("scores.judge_price_in=1", "scores.judge_price_out=4")


def silent(line: str) -> None:
    """Say nothing."""


def pictures_of(request: Request) -> list[bytes]:
    """Return the pictures of a question, decoded from their data URIs."""
    parts = [part for part in request["messages"][-1]["content"] if part["type"] == "image_url"]
    assert all(part["image_url"]["url"].startswith("data:image/jpeg;base64,") for part in parts)
    return [base64.b64decode(part["image_url"]["url"].partition(",")[2]) for part in parts]


def by_pictures(request: Request) -> ServerReply:
    """Answer by the pictures alone: about half of the pairs are bad."""
    first, second = pictures_of(request)
    verdict = GOOD if (sum(first) + sum(second)) % 2 else BAD
    return completion(json.dumps(verdict), read=1000)


def always(verdict: dict[str, Any]) -> Callable[[Request], ServerReply]:
    """Return a script with one answer for everything."""
    return lambda _: completion(json.dumps(verdict), read=1000)


@pytest.fixture(scope="module")
def drawn(base_folder: Path, clip_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Settings of a build that was drawn and filtered without a judge, and is only copied."""
    folder = tmp_path_factory.mktemp("drawn")
    (folder / "captions.txt").write_text("\n".join(CAPTIONS) + "\n")
    settings = [
        f"out={folder / 'out'}", "shard_size=2", f"captions.source={folder / 'captions.txt'}",
        f"pairs.model={base_folder}", "pairs.steps=2", "pairs.candidates=3", "pairs.batch=6",
        f"scores.clip={clip_folder}", "filter.source=-1", "filter.edited=-1", "filter.image=0",
        "filter.direction=-0.3", "filter.top_k=1", "pack.split=0.3", "pack.shard_rows=3",
    ]  # fmt: skip
    pipeline.build(load_config(DatasetConfig, None, settings), say=silent)
    return settings


@pytest.fixture
def plain(drawn: list[str], tmp_path: Path) -> DatasetConfig:
    """The config of a copy of that build."""
    shutil.copytree(drawn[0].removeprefix("out="), tmp_path / "out")
    return load_config(DatasetConfig, None, [*drawn, f"out={tmp_path / 'out'}"])


@pytest.fixture
def judged(plain: DatasetConfig, drawn: list[str], server: Server) -> Callable[..., DatasetConfig]:
    """The same whose pairs the server judges, with further settings."""

    def make(*others: str) -> DatasetConfig:
        own = [f"scores.judge={MODEL}", f"scores.judge_base_url={server.url}", "filter.judge_edit_min=0.5"]
        return load_config(DatasetConfig, None, [*drawn, f"out={plain.out}", *own, *others])

    return make


def filtered(out: Path) -> dict[str, dict[str, Any]]:
    """Return all filtered candidates by id."""
    return {row["id"]: row for row in read_shards(out / "filtered")}


def packed_bytes(out: Path) -> dict[str, bytes]:
    """Return the files of the packed data set by name."""
    return {path.name: path.read_bytes() for path in sorted((out / "packed").rglob("*.parquet"))}


def test_a_judge_refuses_pairs_and_the_next_best_take_their_place(
    judged: Callable[..., DatasetConfig], plain: DatasetConfig, server: Server
) -> None:
    before_any = filtered(Path(plain.out))
    assert all("judge_edit" not in row for row in before_any.values())
    server.script = by_pictures
    says: list[str] = []
    summary = pipeline.refilter(judged(), say=says.append)  # a build from before there was a judge
    rows = filtered(summary.out)
    refused = [row for row in rows.values() if row["reason"] == Reason.LOW_JUDGE_EDIT]
    kept = [row for row in rows.values() if row["status"] == "ok"]
    assert refused and kept and {row["judge_said"] for row in refused} == {"the edit is missing"}
    assert all(row["judge_edit"] == 0.9 and row["judge_kept"] == 0.8 for row in kept)
    judged_triples = {row["triple_id"] for row in refused}
    second = [row for row in kept if row["triple_id"] in judged_triples]
    assert second, "the next best of a triple was asked about, and kept"
    asked = [row for row in rows.values() if row["judge_edit"] is not None]
    assert len(server.requests) == len(asked) < len(rows), "no pair is sent that other thresholds refuse"
    assert all(row["judge_edit"] is None for row in rows.values() if row["reason"] == Reason.LOW_DIRECTION)
    before = len(server.requests)
    assert pipeline.refilter(judged(), say=silent).counts.pairs == len(kept) and len(server.requests) == before
    report = (summary.out / "report.html").read_text()
    assert f"{MODEL}, {len(asked)} pairs" in report and "the edit is missing" in report
    assert f"judged by the vision model {MODEL}" in (summary.out / "packed" / "README.md").read_text()
    assert verify_dataset(summary.out / "packed"), "what was packed by these verdicts is not stale"
    row = next(iter(read_packed(summary.out)))
    assert json.loads(row["provenance"])["judge"] == {"model": MODEL, "edit": 0.9, "kept": 0.8, "clean": 1.0}
    back = pipeline.refilter(plain, say=silent)
    assert filtered(back.out) == before_any, "without the judge all is as it was"
    for path in summary.out.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def read_packed(out: Path) -> list[dict[str, Any]]:
    """Return the rows of the packed data set."""
    import pyarrow.parquet as pq

    return [
        row for path in sorted((out / "packed" / "data").glob("*.parquet")) for row in pq.read_table(path).to_pylist()
    ]


def test_pictures_are_sent_small_and_the_same_every_time(judged: Callable[..., DatasetConfig], server: Server) -> None:
    server.script = always(GOOD)
    summary = pipeline.refilter(judged("scores.judge_orders=2"), say=silent)
    first = server.requests[0]
    said = json.loads(first["messages"][-1]["content"][0]["text"])
    assert set(said) == {"caption", "instruction", "edited_caption"} and first["temperature"] == 0
    for request in server.requests:
        for picture in pictures_of(request):
            with Image.open(io.BytesIO(picture)) as image:
                assert image.format == "JPEG" and max(image.size) <= 512
    orders = {tuple(map(hash, pictures_of(request))) for request in server.requests}
    assert all(order[::-1] in orders for order in orders), "each pair is asked about in both orders"
    again = server.requests.copy()
    (summary.out / JUDGE_LEDGER).unlink()
    pipeline.refilter(judged("scores.judge_orders=2"), say=silent)
    bodies = sorted(json.dumps(each, sort_keys=True) for each in server.requests[len(again) :])
    assert bodies == sorted(json.dumps(each, sort_keys=True) for each in again)


def test_two_orders_are_averaged_and_their_difference_is_told(
    judged: Callable[..., DatasetConfig], server: Server
) -> None:
    def biased(request: Request) -> ServerReply:
        edited_first = "after" in request["messages"][-1]["content"][1]["text"]
        return completion(json.dumps(GOOD | {"edit": 0.4 if edited_first else 1.0}))

    server.script = biased
    says: list[str] = []
    summary = pipeline.refilter(judged("scores.judge_orders=2"), say=says.append)
    assert {row["judge_edit"] for row in filtered(summary.out).values()} == {0.7, None}
    assert any("differ by 0.200 on average" in line for line in says)


def test_a_budget_ends_aloud_and_more_money_goes_on(judged: Callable[..., DatasetConfig], server: Server) -> None:
    server.script = always(GOOD)
    one = (2 * 3000 + 2000) / 1e6  # about what is reserved for a question
    says: list[str] = []
    with pytest.raises(DataError, match=r"none has a verdict.*scores.judge_max_usd"):
        pipeline.refilter(judged(*PRICE, "scores.judge_max_usd=1e-6"), say=silent)
    summary = pipeline.refilter(judged(*PRICE, f"scores.judge_max_usd={one + 0.002}"), say=says.append)
    rows = filtered(summary.out).values()
    judged_rows = [row for row in rows if row["judge_edit"] is not None]
    left = [row for row in rows if row["reason"] == Reason.NOT_JUDGED]
    assert judged_rows and left and any("scores.judge_max_usd" in line for line in says)
    assert any(f"{len(left)} are not judged, since the budget has ended" in line for line in says)
    assert min(row["sim_direction"] for row in judged_rows) >= max(row["sim_direction"] for row in left), "best first"
    assert all(row["judge_edit"] is not None for row in rows if row["status"] == "ok")
    with Ledger(summary.out / JUDGE_LEDGER) as ledger:
        assert ledger.spent.usd <= one + 0.002
    sent = len(server.requests)
    more = pipeline.refilter(judged(*PRICE, "scores.judge_max_usd=5"), say=silent)
    assert not more.counts.candidates[Reason.NOT_JUDGED] and more.counts.pairs > summary.counts.pairs
    asked = sum(row["judge_edit"] is not None for row in filtered(more.out).values())
    assert len(server.requests) == asked > sent, "nothing is paid for twice"


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (completion(None, refusal="I cannot"), Reason.WRITER_REFUSED),
        (completion(""), Reason.BAD_REPLY),
        (completion("a lovely pair"), Reason.BAD_REPLY),
        (completion(json.dumps(GOOD | {"edit": 85})), Reason.BAD_REPLY),
        (completion(json.dumps({"edit": 1.0, "kept": 1.0})), Reason.BAD_REPLY),
        (completion('{"reason": "cut', finish="length"), Reason.CUT_OFF),
        (failure(400, "it violates the policy", "content_policy_violation"), Reason.WRITER_REFUSED),
    ],
)
def test_an_answer_of_no_use_is_counted_with_its_reason(
    judged: Callable[..., DatasetConfig], server: Server, reply: ServerReply, reason: Reason
) -> None:
    bad = set[str]()

    def script(request: Request) -> ServerReply:
        said = request["messages"][-1]["content"][0]["text"]
        if not bad and len(server.requests) > 2:
            bad.add(said)
        return reply if said in bad else completion(json.dumps(GOOD))

    server.script = script
    says: list[str] = []
    summary = pipeline.refilter(judged("scores.judge_parallel=1"), say=says.append)
    silent_rows = [row for row in filtered(summary.out).values() if row["judge_said"] == reason]
    assert silent_rows and all(row["reason"] == Reason.NOT_JUDGED for row in silent_rows)
    assert any(f"got no verdict ({len(silent_rows)} {reason})" in line for line in says)
    assert summary.counts.pairs


def test_formats_fall_back_and_a_dead_server_loses_nothing(
    judged: Callable[..., DatasetConfig], server: Server
) -> None:
    def prose_only(request: Request) -> ServerReply:
        if "response_format" in request:
            return failure(400, "response_format is not supported")
        return completion(f"<think>maybe 0.3</think>Here you are:\n```json\n{json.dumps(GOOD)}\n```")

    server.script = lambda request: prose_only(request) if len(server.requests) < 6 else failure(500, "on fire")
    before = filtered(Path(judged().out))
    with pytest.raises(WriterError, match="goes on from here"):
        pipeline.refilter(judged("scores.judge_parallel=1"), say=silent)
    out = Path(judged().out)
    with Ledger(out / JUDGE_LEDGER) as ledger:
        paid = sum(bool(each.text) for each in ledger.answers.values())
    assert paid and filtered(out) == before, "nothing is filtered without its judge"
    server.script, sent = prose_only, len(server.requests)
    summary = pipeline.refilter(judged(), say=silent)
    asked = sum(row["judge_edit"] is not None for row in filtered(summary.out).values())
    assert len(server.requests) - sent == asked - paid


def test_verdicts_of_another_folder_cost_nothing(
    judged: Callable[..., DatasetConfig], drawn: list[str], server: Server, tmp_path: Path
) -> None:
    server.script = by_pictures
    first = pipeline.refilter(judged(), say=silent)
    sent = len(server.requests)
    other = judged(f"out={tmp_path / 'other'}", f"scores.judge_cache={first.out}", "filter.judge_edit_min=0.6")
    shutil.copytree(drawn[0].removeprefix("out="), other.out)
    second = pipeline.refilter(other, say=silent)
    assert len(server.requests) == sent and filtered(second.out) == filtered(first.out)
    assert read_spending(Path(second.out), JUDGE_LEDGER).cost.usd == 0.0


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_bytes(
    judged: Callable[..., DatasetConfig], server: Server, tmp_path: Path
) -> None:
    from ip2p.data_gen.scale.parallelism import Parallelism

    server.script = by_pictures
    one = pipeline.refilter(judged(), say=silent)
    two = pipeline.build(judged(f"out={tmp_path / 'two'}"), parallelism=Parallelism(workers=2), say=silent)
    assert packed_bytes(one.out) == packed_bytes(two.out) and filtered(one.out) == filtered(two.out)


@pytest.mark.slow
def test_a_killed_run_pays_for_nothing_twice(judged: Callable[..., DatasetConfig], server: Server) -> None:
    server.script = lambda request: by_pictures(request)._replace(delay=0.15)
    config = judged("scores.judge_parallel=1")
    program = """
        import sys
        from ip2p.config import load_config
        from ip2p.data_gen import pipeline
        from ip2p.data_gen.config import DatasetConfig
        pipeline.refilter(DatasetConfig.model_validate_json(sys.stdin.read()))
    """
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, env=env,
    )  # fmt: skip
    assert child.stdin and child.stderr
    child.stdin.write(config.model_dump_json().encode())
    child.stdin.close()
    while len(server.requests) < 3 and child.poll() is None:
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL, child.stderr.read()
    child.stderr.close()
    out = Path(config.out)
    with Ledger(out / JUDGE_LEDGER) as ledger:
        paid = len(ledger.answers)
    assert paid
    sent, server.script = len(server.requests), by_pictures
    summary = pipeline.refilter(config, say=silent)
    asked = sum(row["judge_edit"] is not None for row in filtered(summary.out).values())
    assert len(server.requests) - sent == asked - paid


def test_thresholds_of_a_judge_need_one() -> None:
    with pytest.raises(ConfigError, match="judge_edit_min asks for a judge, and scores.judge names none"):
        load_config(DatasetConfig, None, ["filter.per_kind.season.judge_edit_min=0.5"])


def test_the_price_of_judging_is_told_before() -> None:
    config = load_config(DatasetConfig, None, ["scores.judge=gpt-5-mini", "pairs.candidates=4", "filter.top_k=1"])
    assert price_of_judging(load_config(DatasetConfig), 100) == "none, 0 USD"
    said = price_of_judging(config, 100)
    assert "gpt-5-mini" in said and "100 to 400 questions" in said and "USD" in said
