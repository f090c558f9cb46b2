"""Worker processes: as many as you like make the same bytes, and kills of any of them lose and double nothing."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from datasets import disable_progress_bars

from ip2p.data_gen import pipeline
from ip2p.data_gen.build_folder import STAGES
from ip2p.data_gen.config import DatasetConfig
from ip2p.data_gen.scale.parallelism import Parallelism
from ip2p.errors import BusyError, DataError, ModelError
from ip2p.shards import hash_file, shard_path

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:text longer than")]
MakeConfig = Callable[..., DatasetConfig]
ROOT = Path(__file__).parents[3]
disable_progress_bars()


def quiet(_: str) -> None:
    """Print nothing."""


def stage_bytes(out: Path) -> dict[str, str]:
    """Hash all shards of a build and its data set, with their manifests."""
    files = sorted(path for stage in STAGES for path in (out / stage).rglob("*") if path.is_file())
    return {str(path.relative_to(out)): hash_file(path) for path in files}


@pytest.fixture
def start(settings: list[str], tmp_path: Path) -> Iterator[Callable[[Path], subprocess.Popen[str]]]:
    """Start a build with three workers in a process of its own."""
    config, started = tmp_path / "none.yaml", []
    config.write_text("{}")

    def begin(out: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "data_gen/pipeline.py", "--config", str(config), "--workers", "3"]
        started.append(
            subprocess.Popen(
                [*command[:-2], *settings, *command[-2:], "shard_size=1", f"out={out}"], cwd=ROOT, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
        )  # fmt: skip
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_one_two_and_four_workers_make_the_same_bytes_with_any_number_of_cores(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, lines = [], []
    for workers in (1, 2, 4):
        monkeypatch.setenv("OMP_NUM_THREADS", str(workers))
        config = make_config("shard_size=1", f"out={tmp_path / str(workers)}")
        summary = pipeline.build(config, parallelism=Parallelism(workers), say=lines.append)
        assert summary.drawn == 14 and summary.unet_rows == 14 * (3 * 4 - 1)
        found.append(stage_bytes(tmp_path / str(workers)))
    assert found[0] == found[1] == found[2]
    assert len([name for name in found[0] if name.startswith("scores")]) == 14, "7 shards, each with its manifest"
    folder = tmp_path / "4"
    lines = [json.loads(line) for line in (folder / "seconds.jsonl").read_text().splitlines()]
    drawn = [each["of"] for each in lines if each["stage"] == "candidates"]
    assert len(drawn) == 14 and len(set(drawn)) == 7, "each shard is made once, recorded before and after"
    assert json.loads((folder / "build.json").read_text())["revisions"].keys() == {"pairs.model", "scores.clip"}


def test_a_worker_that_is_killed_ends_the_run_with_one_line_and_the_next_goes_on(
    make_config: MakeConfig, start: Callable[[Path], subprocess.Popen[str]], tmp_path: Path
) -> None:
    whole, out = make_config("shard_size=1", f"out={tmp_path / 'whole'}"), tmp_path / "killed"
    pipeline.build(whole, say=quiet)
    process = start(out)
    wait_for(lambda: list((out / "candidates").glob("shard-*.json")))
    os.kill(psutil.Process(process.pid).children()[0].pid, signal.SIGKILL)
    _, said = process.communicate()
    assert process.returncode == 2
    assert re.search(r"^error: worker \d was killed by SIGKILL, perhaps for want of memory\. All finished", said, re.M)
    kept = {path: path.stat().st_mtime_ns for path in (out / "candidates").glob("shard-*.json")}
    assert len(kept) < 7
    process = start(out)
    assert "kept" in process.communicate()[0] and process.returncode == 0
    assert stage_bytes(out) == stage_bytes(Path(whole.out))
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "what was finished was made again"


def test_when_the_run_is_killed_its_workers_end_and_the_next_goes_on(
    make_config: MakeConfig, start: Callable[[Path], subprocess.Popen[str]], tmp_path: Path
) -> None:
    whole, out = make_config("shard_size=1", f"out={tmp_path / 'whole'}"), tmp_path / "killed"
    pipeline.build(whole, say=quiet)
    process = start(out)
    wait_for(lambda: list((out / "candidates").glob("shard-*.json")))
    workers = psutil.Process(process.pid).children()
    assert len(workers) == 3
    process.kill()
    psutil.wait_procs(workers, timeout=60)
    assert not [worker for worker in workers if worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE]
    process = start(out)
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert stage_bytes(out) == stage_bytes(Path(whole.out))


def test_workers_keep_the_lock_of_a_run_that_was_killed(
    make_config: MakeConfig, start: Callable[[Path], subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = start(tmp_path / "killed")
    wait_for(lambda: list((tmp_path / "killed" / "candidates").glob("shard-*.json")))
    worker = psutil.Process(process.pid).children()[0]
    worker.suspend()
    process.kill()
    process.wait()
    try:
        with pytest.raises(BusyError, match="another run is writing to"):
            pipeline.build(make_config("shard_size=1", f"out={tmp_path / 'killed'}"), say=quiet)
    finally:
        worker.kill()


def test_the_error_of_a_worker_is_that_of_the_run(make_config: MakeConfig, editor_folder: Path, tmp_path: Path) -> None:
    wrong = make_config(f"pairs.model={editor_folder}", f"out={tmp_path / 'wrong'}")
    with pytest.raises(ModelError, match="no text-to-image model"):
        pipeline.build(wrong, parallelism=Parallelism(2), say=quiet)
    torn = make_config("shard_size=1", f"out={tmp_path / 'torn'}")
    pipeline.write_triples(torn, say=quiet)
    shard = shard_path(tmp_path / "torn" / "triples", 3)
    shard.write_bytes(b"0" * shard.stat().st_size)
    with pytest.raises(DataError, match="shard-00003.parquet is corrupt"):
        pipeline.build(torn, parallelism=Parallelism(2), say=quiet)
