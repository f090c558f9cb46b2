"""Shared q and k against copied attention maps, in all families of models, and the UNet after the context."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, UNet2DConditionModel, UNet2DModel
from diffusers.models.attention_processor import Attention, AttnProcessor, XFormersAttnProcessor
from torch import Tensor

from ip2p.data_gen.config import PairsConfig
from ip2p.data_gen.pairs.draw import PairMaker, PlannedCandidate
from ip2p.diffusion.prompt_to_prompt import SharedRows, share_with_source
from ip2p.errors import ModelError
from ip2p.models.backbone import load_backbone
from ip2p.models.loading import quiet
from ip2p.records import Candidate

TEXT = 5


class CopiedMaps:
    """The reference: computes every attention map, and copies those of the sources to the edited rows."""

    def __init__(self, sources: list[int]) -> None:
        self.sources = sources

    def __call__(
        self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: None
    ) -> Tensor:
        """Compute attention as in the paper; only self-attention copies maps."""
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        heads = [
            layer(x).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for layer, x in ((attn.to_q, hidden_states), (attn.to_k, context), (attn.to_v, context))
        ]
        maps = (heads[0] @ heads[1].transpose(-1, -2) * heads[0].shape[-1] ** -0.5).softmax(-1)
        if encoder_hidden_states is None:
            maps = maps[self.sources]
        output: Tensor = attn.to_out[0]((maps @ heads[2]).transpose(1, 2).flatten(2))
        return output


@pytest.fixture(scope="module")
def unet(base_folder: Path) -> UNet2DConditionModel:
    """Return the UNet of the tiny base model."""
    return load_backbone(base_folder).unet


def rows(pairs: int, halves: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Latents, timestep and texts of a UNet batch."""
    torch.manual_seed(1)
    count = 2 * pairs * halves
    return torch.randn(count, 4, 8, 8), torch.tensor(400), torch.randn(count, TEXT, 16)


def run(unet: UNet2DConditionModel, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Return the UNet's prediction."""
    with torch.inference_mode():
        prediction: Tensor = unet(batch[0], batch[1], encoder_hidden_states=batch[2]).sample
    return prediction


@pytest.mark.parametrize(("fractions", "halves"), [((1.0,), 2), ((0.7, 0.0, 0.2), 2), ((0.7, 0.6), 1)])
def test_shared_q_and_k_equal_copied_maps(
    unet: UNet2DConditionModel, fractions: tuple[float, ...], halves: int
) -> None:
    batch, n = rows(len(fractions), halves), len(fractions)
    sources = [
        half + row
        for half in range(0, 2 * n * halves, 2 * n)
        for row in (*range(n), *(pair if 5 < p * 10 else n + pair for pair, p in enumerate(fractions)))
    ]
    plain = dict(unet.attn_processors)
    unet.set_attn_processor(CopiedMaps(sources))
    copied = run(unet, batch)
    unet.set_attn_processor(dict(plain))
    with share_with_source(unet, fractions, steps=11) as control:
        control.at(5)
        shared = run(unet, batch)
    assert (shared - copied).abs().max() < 1e-5
    assert (shared - run(unet, batch)).abs().max() > 1e-2


def test_each_pair_shares_for_its_own_time() -> None:
    control = SharedRows((0.0, 0.35, 1.0), steps=11)
    taken = []
    for step in range(10):
        control.at(step)
        taken.append([row < 3 for row in control.sources(12)[3:6]])
        assert control.sources(12)[:3] == [0, 1, 2] and control.sources(12)[6:9] == [6, 7, 8]
        assert control.sources(12)[9:] == [row + 6 for row in control.sources(12)[3:6]]
    assert [sum(step[pair] for step in taken) for pair in range(3)] == [0, 4, 10]


@pytest.mark.parametrize("steps", [1, 2, 7, 50, 100])
@pytest.mark.parametrize("p", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0])
def test_p_is_that_of_the_authors(p: float, steps: int) -> None:
    """Their code shares at step i of S while p > i / (S - 1)."""
    control, shared = SharedRows((p,), steps), []
    for step in range(steps):
        control.at(step)
        shared.append(control.active)
    assert shared == [p > step / max(1, steps - 1) for step in range(steps)]


def test_rows_of_a_tree_are_equal_until_the_smaller_p_ends() -> None:
    """p shares 0, 1, 6, 6 and 11 of 11 steps; the third and fourth pair are equal to the end."""
    control = SharedRows((0.0, 0.05, 0.53, 0.52, 1.0), steps=12, trees="abbbb")
    control.at(0)
    assert control.same_as == [0, 1, 1, 1, 1, 5, 6, 6, 6, 6]
    assert control.sources(8) == [0, 1, 2, 1, 4, 5, 6, 5]
    control.at(1)
    assert control.same_as == [0, 1, 1, 1, 1, 5, 6, 7, 7, 7]
    assert control.sources(5) == [0, 1, 2, 3, 1]
    control.at(11)
    assert control.same_as == [0, 1, 1, 1, 1, 5, 6, 7, 7, 9]
    assert control.sources(6) == [0, 1, 2, 3, 4, 5]


def test_pictures_of_a_pair_are_equal_without_text_at_the_first_call() -> None:
    """They start from the same noise; the second call of a solver of second order is at the first step, too."""
    control = SharedRows((0.5, 0.0, 0.7, 0.2), steps=11, trees="abcc")
    assert control.same_in_batch(1) == control.same_as == [0, 1, 2, 2, 4, 5, 6, 6]
    assert control.same_in_batch(2)[8:] == [8, 9, 10, 10, 8, 9, 10, 10]
    assert control.sources(9) == [0, 1, 2, 0, 4, 2, 6, 7, 8]
    control.drop({1})
    assert control.same_in_batch(2)[8:] == [8, None, 10, 10, 8, None, 10, 10]
    assert control.sources(6) == [0, 1, 0, 1, 4, 5]
    control.at(0)
    assert control.same_in_batch(2) == [0, None, 2, 2, 4, None, 6, 6, 8, None, 10, 10, 12, None, 14, 14]
    assert SharedRows((0.5,), steps=11).same_in_batch(2) == [0, 1, 2, 3]


def test_rows_that_are_no_whole_conditions_are_refused() -> None:
    with pytest.raises(ValueError, match="5 rows"):
        SharedRows((1.0,), steps=1).sources(5)


def test_nothing_is_shared_before_or_after_the_block(unet: UNet2DConditionModel) -> None:
    batch = rows(1)
    before, processors = run(unet, batch), unet.attn_processors
    with pytest.raises(RuntimeError, match="on purpose"), share_with_source(unet, [1.0], steps=1):
        assert not torch.equal(run(unet, batch), before)
        raise RuntimeError("on purpose")
    assert torch.equal(run(unet, batch), before)
    assert unet.attn_processors == processors
    assert not any(module._forward_hooks for module in unet.modules())


def test_a_block_with_p_0_changes_nothing(unet: UNet2DConditionModel) -> None:
    batch = rows(2)
    plain = run(unet, batch)
    with share_with_source(unet, [0.0, 0.0], steps=4) as control:
        assert not control.active
        assert torch.equal(run(unet, batch), plain)


def test_cross_attention_keeps_its_own(unet: UNet2DConditionModel) -> None:
    """Equal latents and other texts: shared self-attention must not make the rows equal."""
    x, timestep, text = rows(1)
    x = x[:1].repeat(4, 1, 1, 1)
    with share_with_source(unet, [1.0], steps=1):
        shared = run(unet, (x, timestep, text))
    assert (shared[0] - shared[1]).abs().max() > 1e-3


def test_xformers_and_fused_projections_are_refused(unet: UNet2DConditionModel) -> None:
    plain = dict(unet.attn_processors)
    name = next(name for name in plain if "attn1" in name)
    try:
        unet.set_attn_processor(plain | {name: XFormersAttnProcessor()})
        with pytest.raises(ModelError, match="over XFormersAttnProcessor.*set_default_attn_processor"):
            with share_with_source(unet, [1.0], steps=1):
                pass
        unet.set_attn_processor(dict(plain))
        unet.fuse_qkv_projections()
        with pytest.raises(ModelError, match="over FusedAttnProcessor2_0.*unfuse_qkv_projections"):
            with share_with_source(unet, [1.0], steps=1):
                pass
    finally:
        unet.unfuse_qkv_projections()
        unet.set_attn_processor(dict(plain))
    assert not any(module._forward_hooks for module in unet.modules())
    unet.set_attn_processor(AttnProcessor())
    with share_with_source(unet, [1.0], steps=1) as control:
        assert control.active
    unet.set_attn_processor(dict(plain))


def test_a_unet_without_self_attention_is_refused() -> None:
    plain = UNet2DModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8,), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), add_attention=False,
    )  # fmt: skip
    with pytest.raises(ModelError, match="no self-attention"), share_with_source(plain, [1.0], steps=1):
        pass


def test_shared_features_hold_more_than_attention(unet: UNet2DConditionModel) -> None:
    """Of equal latents under two texts, shared features leave the edited row less of its own."""
    x, timestep, text = rows(1)
    batch = (x[:1].repeat(4, 1, 1, 1), timestep, text)
    apart = []
    for features in (False, True):
        with share_with_source(unet, [1.0], steps=1, features=features):
            shared = run(unet, batch)
        apart.append((shared[0] - shared[1]).abs().mean())
    assert apart[1] < apart[0]
    assert not any(module._forward_hooks for module in unet.modules())


class Family(NamedTuple):
    """A family of models, and how pairs are drawn with it.

    Args:
        fixture: fixture of its folder.
        settings: settings of `pairs`.
        rows: UNet rows of a step.
    """

    fixture: str
    settings: dict[str, Any]
    rows: int


FEW = {"scheduler": "lcm", "cfg_min": 1, "cfg_max": 1}
FAMILIES = {
    "sd1": Family("sd_base_folder", {"scheduler": "ddim", "steps": 5}, 4),
    "sd2": Family("sd2_base_folder", {"scheduler": "euler_a", "steps": 5, "negative_prompt": "a blue barn"}, 4),
    "xl": Family("xl_base_folder", {"scheduler": "euler", "steps": 5}, 4),
    **{f"lcm-lora-{steps}": Family("sd_base_folder", FEW | {"steps": steps}, 2) for steps in (1, 4, 8)},
    **{f"lcm-{steps}": Family("lcm_folder", {"scheduler": "lcm", "steps": steps}, 2) for steps in (1, 4)},
    **{f"turbo-{steps}": Family("turbo_folder", {"steps": steps, "cfg_min": 0, "cfg_max": 0}, 2) for steps in (1, 2)},
}


@pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", FAMILIES)
def test_pairs_are_those_of_diffusers_pipelines_with_copied_maps(
    name: str, p: float, request: pytest.FixtureRequest, peer_scheduler: Callable[[Any, str], Any]
) -> None:
    """Over whole runs, with the noise of one seed: attention maps are copied at step i of S while p > i / (S - 1)."""
    folder, settings = request.getfixturevalue(FAMILIES[name].fixture), PairsConfig(**FAMILIES[name].settings)
    scale, captions = settings.cfg_max, ["a barn", "make it night"]
    candidate = Candidate(id="1", triple_id="t", seed=11, p=p, cfg=scale, steps=settings.steps)
    (pair,) = PairMaker(load_backbone(folder), settings).draw([PlannedCandidate(candidate, *captions)])
    equal_rows = FAMILIES[name].rows // 4  # without text, both pictures of a pair begin alike
    assert pair.unet_rows == FAMILIES[name].rows * settings.steps - equal_rows
    with quiet():
        pipeline = DiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = peer_scheduler(pipeline.scheduler, settings.scheduler)
    plain = dict(pipeline.unet.attn_processors)
    copying = CopiedMaps([0, 0, 2, 2][: FAMILIES[name].rows])

    def prepare(step: int) -> None:
        shares = p > step / max(1, settings.steps - 1)
        pipeline.unet.set_attn_processor(copying if shares else dict(plain))

    def end(_: Any, step: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        prepare(step + 1)
        return values

    prepare(0)
    negative = {"negative_prompt": [settings.negative_prompt] * 2} if settings.negative_prompt else {}
    theirs = pipeline(
        captions, num_inference_steps=settings.steps, guidance_scale=scale, callback_on_step_end=end,
        generator=[torch.Generator().manual_seed(11) for _ in captions], **negative,
    ).images  # fmt: skip
    for ours, expected in zip((pair.source, pair.edited), theirs, strict=True):
        assert np.abs(np.asarray(ours, float) - np.asarray(expected, float)).max() <= 1
        assert np.asarray(ours).std() > 3
