"""What comes after the triples is checked before a language model is paid for them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from llm_server import Server, answer_by_rules

from ip2p.data_gen import pipeline
from ip2p.data_gen.config import DatasetConfig, FilterConfig
from ip2p.data_gen.preflight import require_passable
from ip2p.data_gen.scale.parallelism import Parallelism
from ip2p.data_gen.scale.partition import Partition
from ip2p.errors import ConfigError, Ip2pError

MakeConfig = Callable[..., DatasetConfig]

pytestmark = pytest.mark.filterwarnings("ignore:text longer than")


def quiet(_: str) -> None:
    """Print nothing."""


@pytest.fixture
def paid(make_config: MakeConfig, server: Server) -> MakeConfig:
    """Make configs of builds whose writer is a server."""
    asks = ("triples.writer=openai", "triples.model=m", f"triples.base_url={server.url}", "captions.count=2")
    return lambda *others: make_config(*asks, *others)


@pytest.mark.parametrize(
    "wrong",
    [
        "pairs.model=no/such-model", "pairs.vae=no-such-folder", "pairs.loras=[no-such-file.safetensors]",
        "pairs.early_decoder=no-such-folder", "pairs.size=33", "pairs.precision=fp16", "pairs.steps=5000",
        "scores.clip=no-such-clip", "scores.dino=no-such-dino", "filter.direction=1.5", "filter.image_max=-0.5",
        "filter.direction=.nan",
    ],
)  # fmt: skip
def test_nothing_is_asked_if_something_after_it_is_wrong(
    paid: MakeConfig, server: Server, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # the environment was read long ago
    with pytest.raises(Ip2pError) as caught:
        pipeline.build(paid(wrong), say=quiet)
    assert not server.requests
    assert wrong.partition("=")[2].strip("[]") in str(caught.value) or wrong.partition("=")[0] in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (("scores.judge=gpt-5-mini",), "OPENAI_API_KEY"),
        (("scores.judge_base_url=no address",), "scores.judge_base_url"),
        (("scores.judge_max_usd=3", "scores.judge_base_url=http://judge.example.com/v1"), "scores.judge_price_in"),
    ],
)
def test_neither_triples_nor_pairs_are_made_for_a_judge_that_cannot_be_asked(
    make_config: MakeConfig, paid: MakeConfig, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    wrong: tuple[str, ...], said: str,
) -> None:  # fmt: skip
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    for number, make in enumerate((paid, make_config)):
        config = make("scores.judge=some-judge", *wrong, f"out={tmp_path / str(number)}")
        with pytest.raises(Ip2pError, match=said):
            pipeline.build(config, say=quiet)
        assert not list((Path(config.out) / "triples").glob("*.parquet"))
    assert not server.requests


def test_no_share_of_the_pairs_is_drawn_for_a_judge_that_cannot_be_asked(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    config = make_config("scores.judge=some-judge")
    pipeline.write_triples(config, say=quiet)
    with pytest.raises(Ip2pError, match="OPENAI_API_KEY"):
        pipeline.build_partition(config, Partition(0, 2), say=quiet)
    assert not (Path(config.out) / "candidates").exists()


def test_a_language_model_here_does_not_begin_if_the_pairs_could_not_be_drawn(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # the environment was read long ago
    local = ("triples.writer=local", "triples.model=no/such-writer", "captions.count=2")
    with pytest.raises(Ip2pError, match="no/such-model"):
        pipeline.build(make_config(*local, "pairs.model=no/such-model"), say=quiet)
    with pytest.raises(ConfigError, match=r"filter.direction=1.5"):
        pipeline.write_triples(make_config(*local, "filter.direction=1.5"), say=quiet)


def test_triples_alone_are_not_paid_for_if_nothing_could_pass(paid: MakeConfig, server: Server) -> None:
    with pytest.raises(ConfigError, match="keeps nothing"):
        pipeline.write_triples(paid("filter.per_kind={color: {source: 2}}"), say=quiet)
    assert not server.requests


def test_a_build_that_is_right_asks_and_ends(paid: MakeConfig, server: Server) -> None:
    server.script = answer_by_rules
    config = paid("filter.direction=-1")
    for parallelism in (Parallelism(2), Parallelism()):
        summary = pipeline.build(config, parallelism=parallelism, say=quiet)
    assert summary.counts.pairs and 0 < len(server.requests) < 5
    assert (Path(config.out) / "packed").exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"source": 1.01}, r"filter.source=1.01 keeps nothing: the score is from -1 to 1"),
        ({"shift_max": -1}, r"filter.shift_max=-1.0 keeps nothing: the score is from 0 to inf"),
        ({"changed_min": 0.5, "changed_max": 0.4}, r"filter.changed_min=0.5 is above filter.changed_max=0.4"),
        ({"per_kind": {"color": {"image": 0.99, "image_max": 0.9}}}, r"filter.per_kind.color.image=0.99 is above"),
    ],
)
def test_thresholds_that_nothing_can_pass_are_told(settings: dict[str, object], said: str) -> None:
    require_passable(FilterConfig())
    with pytest.raises(ConfigError, match=said):
        require_passable(FilterConfig.model_validate(settings))
