"""Draw pairs of pictures: the base model draws both captions from the same noise, with shared self-attention.

A candidate is determined by its seed, its share p of the denoising steps and its guidance scale, which follow from the
run's seed, the triple and the candidate's number. Initial noise and ancestral noise are the same for both pictures.
"""

import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from PIL import Image

from ip2p.data_gen.config import PairsConfig
from ip2p.data_gen.pairs.prompt_to_prompt import share_with_source
from ip2p.diffusion.sampling import count_model_calls, make_scheduler
from ip2p.editing.draw import Drawn, draw, text_guidance
from ip2p.errors import ConfigError
from ip2p.models.backbone import Backbone
from ip2p.models.safety import black_out
from ip2p.records import Candidate, Reason, Triple, content_id
from ip2p.seeding import derive_seed
from ip2p.settings import GenerationSettings


class Pair(NamedTuple):
    """A candidate with its two pictures, and its number of UNet rows."""

    candidate: Candidate
    source: Image.Image
    edited: Image.Image
    unet_rows: int


class PlannedCandidate(NamedTuple):
    """A candidate to draw, with its two captions."""

    candidate: Candidate
    caption: str
    edited_caption: str


class PairMaker:
    """Draws pairs with a text-to-image model.

    Args:
        backbone: text-to-image model.
        settings: settings of the stage.

    Raises:
        ConfigError: the model cannot draw pictures of the requested size, or the scheduler takes fewer steps.
        ModelError: the backbone is not a text-to-image model.
    """

    def __init__(self, backbone: Backbone, settings: PairsConfig) -> None:
        backbone.require("base")
        self.backbone = backbone
        self.settings = settings
        self.side = settings.size or backbone.image_size
        multiple = backbone.downscale * 2 ** (len(backbone.unet.config.block_out_channels) - 1)
        if self.side % multiple:
            raise ConfigError(f"pairs.size={self.side} does not suit {backbone.name}", f"Give a multiple of {multiple}")
        self.sampling = GenerationSettings(
            steps=settings.steps, scheduler=settings.scheduler, text_every=settings.text_every,
            guidance_start=settings.guidance_start, guidance_stop=settings.guidance_stop,
        )  # fmt: skip
        scheduler = make_scheduler(backbone.scheduler, settings.scheduler)
        count_model_calls(scheduler, settings.steps)  # a scheduler that takes fewer steps is noticed before it draws
        self.order = scheduler.order

    def draw(self, planned: Sequence[PlannedCandidate]) -> Iterator[Pair]:
        """Draw candidates in order, batch by batch; a batch may mix triples, shares and guidance scales.

        Each denoising step calls the UNet once for all rows: source and edited pictures, with and without text.
        If the safety checker blocks a picture, both pictures of its pair become black, and the pair is refused.
        """
        for start in range(0, len(planned), self.settings.batch):
            batch = planned[start : start + self.settings.batch]
            drawn = self._draw(batch)
            for number, each in enumerate(batch):
                source, edited = drawn[number], drawn[number + len(batch)]
                pair = Pair(each.candidate, source.image, edited.image, source.unet_rows + edited.unet_rows)
                yield _refuse(pair) if source.blocked or edited.blocked else pair

    def _draw(self, planned: Sequence[PlannedCandidate]) -> list[Drawn]:
        """Draw the pictures of a batch, all source pictures before all edited ones."""
        backbone, settings = self.backbone, self.sampling
        candidates = [each.candidate for each in planned]
        texts = [each.caption for each in planned] + [each.edited_caption for each in planned]
        scales = torch.tensor([candidate.cfg for candidate in candidates] * 2, device=backbone.device)
        # Two generators of one seed for the two pictures of a pair: they draw the same noise at every step.
        generators = [torch.Generator().manual_seed(candidate.seed) for candidate in candidates * 2]
        fractions, features = [each.p for each in candidates], self.settings.share == "features"
        sharing = share_with_source(backbone.unet, fractions, self.settings.steps, order=self.order, features=features)
        with backbone.lock, sharing as control:
            return draw(
                backbone, text_guidance(backbone, settings, texts, scale=scales), settings,
                size=(self.side, self.side), generators=generators,
                on_step=lambda call, _: control.at(call + 1), decode_rows=len(planned),
            )  # fmt: skip


def plan_candidates(triples: Sequence[Triple], settings: PairsConfig, seed: int) -> list[PlannedCandidate]:
    """Plan the candidates of triples that were not refused, with p ~ U(p_min, p_max) and cfg ~ U(cfg_min, cfg_max).

    Args:
        triples: triples of one shard.
        settings: settings of the stage.
        seed: seed of the run.
    """
    planned = []
    for triple in triples:
        for number in range(settings.candidates if triple.status == "ok" else 0):
            rng = random.Random(derive_seed(seed, "pairs", triple.id, number))
            candidate = Candidate(
                id=content_id(triple.id, str(number)),
                triple_id=triple.id,
                seed=rng.getrandbits(63),
                p=round(rng.uniform(settings.p_min, settings.p_max), 4),
                cfg=round(rng.uniform(settings.cfg_min, settings.cfg_max), 4),
                steps=settings.steps,
            )
            planned.append(PlannedCandidate(candidate, triple.caption, triple.edited_caption))
    return planned


def _refuse(pair: Pair) -> Pair:
    """Refuse an unsafe pair, and black out both pictures."""
    refused = pair.candidate.model_copy(update={"status": "refused", "reason": Reason.UNSAFE})
    return pair._replace(candidate=refused, source=black_out(pair.source), edited=black_out(pair.edited))
