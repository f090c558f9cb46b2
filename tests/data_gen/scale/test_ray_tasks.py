"""Pairs by Ray, on a local cluster, if it is installed."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ip2p.data_gen import pipeline
from ip2p.data_gen.build_folder import STAGES
from ip2p.data_gen.config import DatasetConfig
from ip2p.data_gen.scale.parallelism import Parallelism, parse_parallelism
from ip2p.errors import ConfigError, ModelError
from ip2p.shards import hash_file

MakeConfig = Callable[..., DatasetConfig]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:text longer than"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Ray leaves files and processes to the collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
]


def quiet(_: str) -> None:
    """Print nothing."""


def stage_bytes(out: Path) -> dict[str, str]:
    """Hash all shards of a build and its data set, with their manifests."""
    files = sorted(path for stage in STAGES for path in (out / stage).rglob("*") if path.is_file())
    return {str(path.relative_to(out)): hash_file(path) for path in files}


def test_ray_makes_the_same_bytes(make_config: MakeConfig, editor_folder: Path, tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    pipeline.build(make_config(f"out={tmp_path / 'alone'}"), say=quiet)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        summary = pipeline.build(make_config(f"out={tmp_path / 'ray'}"), parallelism=Parallelism(0, "ray"), say=quiet)
        assert summary.drawn == 14
        wrong = make_config(f"pairs.model={editor_folder}", f"out={tmp_path / 'wrong'}")
        with pytest.raises(ModelError, match="no text-to-image model"):
            pipeline.build(wrong, parallelism=Parallelism(1, "ray"), say=quiet)
    finally:
        ray.shutdown()
    assert stage_bytes(tmp_path / "ray") == stage_bytes(tmp_path / "alone")


def test_without_ray_one_line_says_how_to_get_it(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"the engine ray needs Ray, .*pip install"):
        pipeline.build(make_config(), parallelism=Parallelism(0, "ray"), say=quiet)


def test_other_engines_and_negative_numbers_are_told() -> None:
    with pytest.raises(ConfigError, match="the engine dask is unknown. Give one of processes, ray"):
        parse_parallelism(1, "dask")
    with pytest.raises(ConfigError, match="there cannot be -1 workers"):
        parse_parallelism(-1, "ray")
