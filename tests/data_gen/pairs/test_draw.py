"""Candidates: what follows from a seed, what both pictures share, and what a batch must not change."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ip2p.data_gen.build_folder import hash_model, hash_origins
from ip2p.data_gen.config import DatasetConfig, PairsConfig
from ip2p.data_gen.pairs.draw import Pair, PairMaker, Pictures, PlannedCandidate, plan_candidates
from ip2p.diffusion.guidance import TextGuidance
from ip2p.diffusion.sampling import make_scheduler, sample
from ip2p.errors import ConfigError, ModelError
from ip2p.models.backbone import Backbone, load_backbone
from ip2p.records import Candidate, Reason, Triple
from ip2p.settings import SCHEDULERS

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
def latents() -> Callable[..., Tensor]:
    """Final latents (pairs, 2, c, h, w) of candidates: pictures round away what a test wants to see."""

    def run(
        backbone: Backbone, candidates: Sequence[PlannedCandidate], *, batch: int = 8, scheduler: str = "euler_a"
    ) -> Tensor:
        maker = PairMaker(backbone, PairsConfig(steps=4, batch=batch, scheduler=scheduler))
        batches = [candidates[start : start + batch] for start in range(0, len(candidates), batch)]
        return torch.cat([torch.stack(maker.denoise(each).latents.chunk(2), dim=1) for each in batches])

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


def test_a_pair_takes_four_rows_a_step_but_for_the_first(backbone: Backbone) -> None:
    drawn = draw(backbone, [planned(0.2, seed=1), planned(0.3, seed=2), planned(0.4, seed=3)], batch=2)
    assert [pair.unet_rows for pair in drawn] == [15, 15, 15]


TREE = (0.3, 0.9, 0.1, 0.7, 0.5)


@pytest.mark.parametrize(
    "settings",
    [
        *({"scheduler": name} for name in SCHEDULERS),
        {"share": "features"},
        {"scheduler": "dpm", "text_every": 3, "guidance_start": 0.1, "guidance_stop": 0.7},
        {"cfg_min": 1.0},
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_a_tree_equals_independent_runs_and_takes_fewer_rows(backbone: Backbone, settings: dict[str, Any]) -> None:
    """Beside another tree, that a batch must not mix with."""
    maker = PairMaker(backbone, PairsConfig(**{"steps": 8, "batch": 8} | settings))
    tree = [planned(p, cfg=settings.get("cfg_min", 4.0)) for p in TREE]
    other = [planned(p, cfg=2.0, seed=5) for p in (0.8, 0.0)]
    alone = [maker.denoise([each]) for each in (*tree, *other)]
    together = maker.denoise([*tree, *other])
    for pair, single in enumerate(alone):
        for row in (0, 1):
            assert (together.latents[pair + row * 7] - single.latents[row]).abs().max() < 1e-4
    ours = maker.denoise(tree)
    share = sum(ours.rows_each) / sum(sum(each.rows_each) for each in alone[:5])
    assert share <= (0.45 if "text_every" not in settings else 0.5)
    assert (ours.latents[5:9] - ours.latents[6:]).abs().amax(dim=(1, 2, 3)).min() > 1e-3


def test_pairs_of_a_tree_have_one_source_picture_and_pictures_of_their_own(backbone: Backbone) -> None:
    settings = PairsConfig(steps=12, candidates=3, tree=3, batch=4, scheduler="dpm")
    pairs = list(PairMaker(backbone, settings).draw(plan_candidates([triple(1), triple(2)], settings, seed=1)))
    captions = [("1 barns", "1 night")] * 3 + [("2 barns", "2 night")] * 3
    again = [PlannedCandidate(pair.candidate, *each) for pair, each in zip(pairs, captions, strict=True)]
    alone = [pair for each in again for pair in PairMaker(backbone, settings).draw([each])]
    for pair, other in zip(pairs, alone, strict=True):
        for ours, theirs in ((pair.source, other.source), (pair.edited, other.edited)):
            assert np.abs(np.asarray(ours).astype(int) - np.asarray(theirs)).max() <= 1
    assert len({pair.source.tobytes() for pair in pairs}) == 2
    assert len({pair.edited.tobytes() for pair in pairs}) == 6
    assert sum(pair.unet_rows for pair in pairs) < 0.75 * sum(pair.unet_rows for pair in alone)


DROPPED = (1, 2, 5)
"""Pairs of a tree of five and of two others that are dropped: the first of the tree's longer branches among them."""


@pytest.mark.parametrize(
    "settings",
    [*({"scheduler": name} for name in SCHEDULERS), {"share": "features", "text_every": 2, "guidance_stop": 0.6}],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_dropped_pairs_take_no_further_rows_and_change_no_other(backbone: Backbone, settings: dict[str, Any]) -> None:
    maker = PairMaker(backbone, PairsConfig(**{"steps": 7, "early_at": 0.4, "scheduler": "euler_a"} | settings))
    batch = [*(planned(p) for p in TREE), planned(0.6, seed=5), planned(0.2, seed=6, cfg=2.0)]
    seen: list[Any] = []

    def reject(candidates: Sequence[PlannedCandidate], pictures: Sequence[Pictures]) -> list[bool]:
        seen.append((candidates, pictures))
        return [place in DROPPED for place in range(len(candidates))]

    full, ours = maker.denoise(batch), maker.denoise(batch, reject)
    ((candidates, pictures),) = seen
    assert list(candidates) == batch and set(ours.dropped) == set(DROPPED)
    assert all(ours.dropped[place] == pictures[place] for place in DROPPED)
    for row in (each + half for half in (0, 7) for each in range(7) if each not in DROPPED):
        assert (ours.latents[row] - full.latents[row]).abs().max() < 1e-4
    kept = [each for place, each in enumerate(batch) if place not in DROPPED]
    begun = sum(maker.denoise(batch, lambda each, _: [True] * len(each)).rows_each)
    assert begun < 0.5 * sum(full.rows_each)
    # What is not dropped costs as much as drawn alone; before the drop, all were drawn.
    early = sum(maker.denoise(kept, lambda each, _: [True] * len(each)).rows_each)
    assert sum(ours.rows_each) == begun + sum(maker.denoise(kept).rows_each) - early


@pytest.mark.parametrize("scheduler", ["ddim", "euler", "dpm", "heun"])
def test_estimates_come_near_the_pictures(backbone: Backbone, scheduler: str) -> None:
    """The later the nearer: after the last but one step, hardly anything is left to do."""
    apart = []
    for early_at in (0.1, 0.5, 0.99):
        maker = PairMaker(backbone, PairsConfig(steps=20, early_at=early_at, scheduler=scheduler))
        full = next(maker.draw([planned(0.5)]))
        early = next(maker.draw([planned(0.5)], lambda *_: [True]))
        assert early.candidate.status == "refused" and early.candidate.reason is Reason.REJECTED_EARLY
        assert early.unet_rows < full.unet_rows
        pictures = ((early.source, full.source), (early.edited, full.edited))
        apart.append(np.mean([np.abs(np.asarray(a).astype(float) - np.asarray(b)).mean() for a, b in pictures]))
    assert apart == sorted(apart, reverse=True) and apart[2] < 2


def test_nothing_is_rejected_where_it_is_too_late(backbone: Backbone) -> None:
    def reject(*_: Any) -> list[bool]:
        raise AssertionError("nobody is asked")

    for settings in (PairsConfig(steps=4), PairsConfig(steps=1, early_at=0.5)):
        assert [each.candidate.status for each in PairMaker(backbone, settings).draw([planned(0.5)], reject)] == ["ok"]


def test_estimates_are_decoded_by_a_small_decoder(sd_base_folder: Path, base_folder: Path, clip_folder: Path) -> None:
    """storybook's autoencoder is one; the pictures that are kept are the model's own."""
    settings = {"steps": 4, "early_at": 0.5}
    makers = [
        PairMaker(load_backbone(sd_base_folder), PairsConfig(**settings, early_decoder=decoder))
        for decoder in ("", str(base_folder / "vae"))
    ]
    own, small = (next(maker.draw([planned(0.5)], lambda *_: [True])) for maker in makers)
    assert own.source != small.source and own.source.size == small.source.size
    own, small = (next(maker.draw([planned(0.5)], lambda *_: [False])) for maker in makers)
    assert own.source == small.source and own.edited == small.edited
    config = DatasetConfig.model_validate(
        {
            "pairs": {"model": str(base_folder), "early_decoder": str(base_folder / "vae")},
            "scores": {"clip": str(clip_folder)},
        }
    )
    assert hash_origins(config)["pairs.early_decoder (its weights)"] == hash_model(str(base_folder / "vae"))


def test_batches_have_whole_trees(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    run = PairMaker.denoise

    def count(self: PairMaker, batch: Sequence[PlannedCandidate], *others: Any) -> Any:
        sizes.append(len(batch))
        return run(self, batch, *others)

    monkeypatch.setattr(PairMaker, "denoise", count)
    settings = PairsConfig(steps=1, candidates=4, tree=3, batch=5)
    assert len(list(PairMaker(backbone, settings).draw(plan_candidates([triple(1), triple(2)], settings, seed=1)))) == 8
    assert sizes == [4, 4]
    settings = PairsConfig(steps=1, batch=2)
    assert len(list(PairMaker(backbone, settings).draw([planned(p) for p in TREE]))) == 5
    assert sizes == [4, 4, 2, 2, 1]


def test_a_plan_follows_from_the_seed_alone() -> None:
    settings = PairsConfig(candidates=3, steps=7, p_min=0.2, p_max=0.4, cfg_min=2, cfg_max=3)
    candidates = plan_candidates([triple(1), triple(2, "refused"), triple(3)], settings, seed=4)
    assert [each.candidate.triple_id for each in candidates] == ["t1"] * 3 + ["t3"] * 3
    assert candidates[3:] == plan_candidates([triple(3)], settings, seed=4)
    assert candidates != plan_candidates([triple(1), triple(3)], settings, seed=5)
    assert len({each.candidate.id for each in candidates} | {str(each.candidate.seed) for each in candidates}) == 12
    for each in candidates:
        assert 0.2 <= each.candidate.p <= 0.4 and 2 <= each.candidate.cfg <= 3 and each.candidate.steps == 7


def test_a_plan_without_trees_is_that_of_earlier_versions() -> None:
    (first, second) = plan_candidates([triple(1)], PairsConfig(candidates=2), seed=4)
    assert (first.candidate.id, first.candidate.seed) == ("46babf3ad66a1fec", 3725490794137765923)
    assert (second.candidate.id, second.candidate.seed) == ("1aa839268e9f8739", 816974687220492289)
    assert [(each.candidate.p, each.candidate.cfg) for each in (first, second)] == [(0.2012, 3.6727), (0.3759, 3.6673)]


def test_a_kind_of_edit_may_have_ranges_of_its_own() -> None:
    settings = PairsConfig.model_validate(
        {
            "candidates": 4,
            "p_max": 0.8,
            "per_kind": {"swap": {"p_min": 0.1, "p_max": 0.2}, "swap_animal": {"cfg_min": 5}},
        }
    )

    def plan(kind: str) -> list[Candidate]:
        planned = plan_candidates([triple(1).model_copy(update={"kind": kind})], settings, seed=4)
        return [each.candidate for each in planned]

    assert all(0.1 <= each.p <= 0.2 and each.cfg < 5 for each in plan("swap_building"))
    assert all(0.1 <= each.p <= 0.2 and each.cfg == 5 for each in plan("swap_animal"))
    plain = plan_candidates([triple(1)], settings.model_copy(update={"per_kind": {}}), seed=4)
    assert plan("season") == [each.candidate for each in plain]
    with pytest.raises(ValueError, match="must not be above"):
        PairsConfig.model_validate({"p_max": 0.3, "per_kind": {"season": {"p_min": 0.4}}})


def test_candidates_of_a_tree_differ_in_p_from_parts_of_its_range() -> None:
    settings = PairsConfig(candidates=7, tree=5, p_min=0.2, p_max=0.7)
    drawn = [each.candidate for each in plan_candidates([triple(1)], settings, seed=4)]
    assert [each.id for each in drawn] == [
        each.candidate.id for each in plan_candidates([triple(1)], PairsConfig(candidates=7), seed=4)
    ]
    assert [len({(each.seed, each.cfg) for each in part}) for part in (drawn, drawn[:5], drawn[5:])] == [2, 1, 1]
    assert sorted(int((each.p - 0.2) / 0.1) for each in drawn[:5]) == [0, 1, 2, 3, 4]
    more = plan_candidates([triple(1)], settings.model_copy(update={"candidates": 12}), seed=4)
    assert [each.candidate for each in more[:7]] == drawn
    assert [each.p for each in drawn[:5]] != sorted(each.p for each in drawn[:5])


def test_a_tree_larger_than_a_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="tree must not be above batch"):
        PairsConfig(tree=9, batch=8)


def test_wrong_models_and_sizes_are_told(backbone: Backbone, editor_folder: Path) -> None:
    with pytest.raises(ModelError, match="no text-to-image model"):
        PairMaker(load_backbone(editor_folder), PairsConfig())
    with pytest.raises(ConfigError, match="pairs.size=36 does not suit.*multiple of 8"):
        PairMaker(backbone, PairsConfig(size=36))
