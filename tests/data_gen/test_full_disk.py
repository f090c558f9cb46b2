"""A disk without room: one line, and the same command goes on when there is room."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ip2p.data_gen import pipeline
from ip2p.data_gen.build_folder import STAGES
from ip2p.data_gen.config import DatasetConfig
from ip2p.errors import DataError
from ip2p.remote.ledger import LEDGER_FILE, Ledger
from ip2p.shards import atomic_dir, hash_file

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:text longer than")]


def stage_bytes(out: Path) -> dict[str, str]:
    """Hash all shards of a build and its data set, with their manifests."""
    files = sorted(path for stage in STAGES for path in (out / stage).rglob("*") if path.is_file())
    return {str(path.relative_to(out)): hash_file(path) for path in files}


def limit_files() -> None:
    """Let this process write no file above 12 kB, as if the disk were full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, resource.RLIM_INFINITY))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_build_goes_on_after_a_full_disk(
    make_config: Callable[..., DatasetConfig], settings: list[str], tmp_path: Path, workers: str
) -> None:
    pipeline.build(make_config(f"out={tmp_path / 'whole'}"), say=lambda _: None)
    config, out = tmp_path / "none.yaml", tmp_path / "out"
    config.write_text("{}")
    command = [sys.executable, "data_gen/pipeline.py", "--config", str(config), "--workers", workers, *settings]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    full = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, preexec_fn=limit_files, check=False
    )
    errors = [line for line in full.stderr.splitlines() if line.startswith("error")]
    assert full.returncode == 2 and len(errors) == 1 and "Traceback" not in full.stderr
    assert "cannot be written (File too large). Make room for it: what is finished is kept" in errors[0]
    assert list((out / "triples").glob("*.json")) and not list(out.rglob(".*"))
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    assert stage_bytes(out) == stage_bytes(tmp_path / "whole")


def test_a_ledger_is_not_torn(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Ledger(tmp_path / LEDGER_FILE) as ledger:
        ledger.note("first", "a")
        resource.setrlimit(resource.RLIMIT_FSIZE, (ledger.path.stat().st_size + 100, before[1]))
        try:
            with pytest.raises(DataError, match=r"asked.jsonl cannot be written .*Make room"):
                ledger.note("second", "b" * 1000)
            ledger.note("third", "c")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    with Ledger(tmp_path / LEDGER_FILE) as ledger:
        assert ledger.notes == {"first": "a", "third": "c"}


def test_a_folder_is_whole_or_absent(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(DataError, match="packed cannot be written"), atomic_dir(tmp_path / "packed") as folder:
            (folder / "shard").write_bytes(b"0" * 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())
