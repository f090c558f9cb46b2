"""Candidates: what follows from a seed, what both pictures share, and what a batch must not change."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ip2p.data_gen.config import PairsConfig
from ip2p.data_gen.pairs.draw import Pair, PairMaker, PlannedCandidate, plan_candidates
from ip2p.diffusion.guidance import TextGuidance
from ip2p.diffusion.sampling import make_scheduler, sample
from ip2p.errors import ConfigError, ModelError
from ip2p.models.backbone import Backbone, load_backbone
from ip2p.records import Candidate, Triple

pytestmark = pytest.mark.filterwarnings("ignore:text longer than")


@pytest.fixture(scope="module")
def backbone(base_folder: Path) -> Backbone:
    """Load the tiny base model."""
    return load_backbone(base_folder, want="base")


def triple(number: int, status: str = "ok") -> Triple:
    """Make a unique triple."""
    return Triple(
        id=f"t{number}", caption_id="c", caption=f"{number} barns", instruction="make it night",
        edited_caption=f"{number} night", kind="time", writer="rules", status=status,
    )  # fmt: skip


def planned(
    p: float, *, cfg: float = 4.0, seed: int = 11, captions: tuple[str, str] = ("barn", "night")
) -> PlannedCandidate:
    """One candidate."""
    return PlannedCandidate(Candidate(id=f"{p}{seed}", triple_id="t", seed=seed, p=p, cfg=cfg, steps=4), *captions)


def draw(
    backbone: Backbone, candidates: Sequence[PlannedCandidate], batch: int = 8, scheduler: str = "euler_a"
) -> list[Pair]:
    """All pairs of candidates."""
    return list(PairMaker(backbone, PairsConfig(steps=4, batch=batch, scheduler=scheduler)).draw(candidates))


@pytest.fixture
def latents(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Tensor]:
    """Final latents (pairs, 2, c, h, w) of candidates: pictures round away what a test wants to see."""
    seen: list[Tensor] = []

    def keep(self: Backbone, latents: Tensor) -> Tensor:
        seen.append(latents)
        return latents[:, :3]

    def run(backbone: Backbone, candidates: Sequence[PlannedCandidate], **settings: Any) -> Tensor:
        seen.clear()
        with monkeypatch.context() as patch:
            patch.setattr(Backbone, "decode", keep)
            draw(backbone, candidates, **settings)
        return torch.stack([torch.cat(seen[0::2]), torch.cat(seen[1::2])], dim=1)

    return run


@pytest.mark.parametrize("scheduler", ["euler_a", "ddim", "dpm"])
def test_equal_captions_and_p_1_give_equal_pictures(
    backbone: Backbone, latents: Callable[..., Tensor], scheduler: str
) -> None:
    equal, other = latents(backbone, [planned(1.0, captions=("a barn", "a barn")), planned(1.0)], scheduler=scheduler)
    assert (equal[0] - equal[1]).abs().max() < 1e-5
    assert (other[0] - other[1]).abs().max() > 1e-2
    (pair,) = draw(backbone, [planned(1.0, captions=("a barn", "a barn"))], scheduler=scheduler)
    assert pair.source.tobytes() == pair.edited.tobytes()


def test_a_batch_equals_single_runs(backbone: Backbone, latents: Callable[..., Tensor]) -> None:
    candidates = [
        planned(0.0),
        planned(0.4, cfg=2.0, seed=5, captions=("a dog", "a cat")),
        planned(0.8, seed=9),
        planned(1.0, cfg=7.5),
    ]
    alone = latents(backbone, candidates, batch=1)
    for batch in (2, 3, 4):
        assert (latents(backbone, candidates, batch=batch) - alone).abs().max() < 5e-5  # rounding, times guidance


def test_p_0_is_independent_sampling_with_shared_noise(backbone: Backbone, latents: Callable[..., Tensor]) -> None:
    (pair,) = latents(backbone, [planned(0.0)])
    for row, caption in enumerate(("barn", "night")):
        generator = torch.Generator().manual_seed(11)
        noise = torch.randn(4, 8, 8, generator=generator)[None]
        scheduler = make_scheduler(backbone.scheduler, "euler_a")
        with torch.inference_mode():
            texts = backbone.encode_text([caption]), backbone.encode_text([""])
            guidance = TextGuidance(backbone.predict, *texts, scale=4.0)
            drawn = sample(guidance, noise, scheduler, steps=4, generators=[generator])
        assert (pair[row] - drawn).abs().max() < 1e-5


def test_p_changes_the_edited_picture_and_not_the_source(backbone: Backbone, latents: Callable[..., Tensor]) -> None:
    drawn = latents(backbone, [planned(0.0), planned(0.5), planned(1.0)])
    assert (drawn[0, 0] - drawn[:, 0]).abs().max() < 1e-5
    assert (drawn[0, 1] - drawn[1, 1]).abs().max() > 1e-3 < (drawn[1, 1] - drawn[2, 1]).abs().max()


def test_a_pair_takes_four_rows_a_step(backbone: Backbone) -> None:
    assert [pair.unet_rows for pair in draw(backbone, [planned(0.2), planned(0.3), planned(0.4)], batch=2)] == [
        16,
        16,
        16,
    ]


def test_a_plan_follows_from_the_seed_alone() -> None:
    settings = PairsConfig(candidates=3, steps=7, p_min=0.2, p_max=0.4, cfg_min=2, cfg_max=3)
    candidates = plan_candidates([triple(1), triple(2, "refused"), triple(3)], settings, seed=4)
    assert [each.candidate.triple_id for each in candidates] == ["t1"] * 3 + ["t3"] * 3
    assert candidates[3:] == plan_candidates([triple(3)], settings, seed=4)
    assert candidates != plan_candidates([triple(1), triple(3)], settings, seed=5)
    assert len({each.candidate.id for each in candidates} | {str(each.candidate.seed) for each in candidates}) == 12
    for each in candidates:
        assert 0.2 <= each.candidate.p <= 0.4 and 2 <= each.candidate.cfg <= 3 and each.candidate.steps == 7


def test_wrong_models_and_sizes_are_told(backbone: Backbone, editor_folder: Path) -> None:
    with pytest.raises(ModelError, match="no text-to-image model"):
        PairMaker(load_backbone(editor_folder), PairsConfig())
    with pytest.raises(ConfigError, match="pairs.size=36 does not suit.*multiple of 8"):
        PairMaker(backbone, PairsConfig(size=36))
