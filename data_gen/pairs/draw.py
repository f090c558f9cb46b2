"""Draw pairs of pictures: the base model draws both captions from the same noise, with shared self-attention.

A candidate is determined by its seed, its share p of the denoising steps and its guidance scale, which follow from the
run's seed, the triple and the candidate's number. Initial noise and ancestral noise are the same for both pictures.

Candidates of a tree differ in p alone. They have one source picture, and an edited picture branches off where its
sharing ends; what they have in common is computed once, and each equals its own run.
"""

import dataclasses
import itertools
import random
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from ip2p.data_gen.config import PairsConfig
from ip2p.diffusion.previews import Estimates
from ip2p.diffusion.prompt_to_prompt import share_with_source
from ip2p.diffusion.sampling import make_scheduler, steps_of_calls
from ip2p.editing.draw import decode, denoise, text_guidance
from ip2p.errors import ConfigError
from ip2p.models.backbone import Backbone
from ip2p.models.decoder import load_decoder
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

    @property
    def tree(self) -> Hashable:
        """Name of its tree: all that two candidates which differ in p alone have in common."""
        candidate = self.candidate
        return self.caption, self.edited_caption, candidate.seed, candidate.cfg, candidate.steps


Pictures = tuple[Image.Image, Image.Image]
"""Source and edited picture of a pair."""
Reject = Callable[[Sequence[PlannedCandidate], Sequence[Pictures]], Sequence[bool]]
"""Function from the candidates of a batch and estimates of their pictures, part of the way, to which are dropped."""


class DenoisedPairs(NamedTuple):
    """Latents of a batch of n candidates, all source pictures before all edited ones.

    Args:
        latents: scaled latents, shape (2n, c, h, w); those of dropped candidates mean nothing.
        rows_each: number of UNet rows that each took; those of equal pictures count for the first.
        same_as: the first row that each equals; None for rows of dropped candidates.
        dropped: estimates of dropped candidates, by place in the batch.
    """

    latents: Tensor
    rows_each: list[int]
    same_as: list[int | None]
    dropped: dict[int, Pictures]


class Decoded(NamedTuple):
    """A picture as it was decoded, black if the safety checker blocked it."""

    image: Image.Image
    blocked: bool


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
        multiple = backbone.side_multiple
        if self.side % multiple:
            raise ConfigError(f"pairs.size={self.side} does not suit {backbone.name}", f"Give a multiple of {multiple}")
        self.sampling = GenerationSettings(
            steps=settings.steps, scheduler=settings.scheduler, text_every=settings.text_every,
            guidance_start=settings.guidance_start, guidance_stop=settings.guidance_stop,
        )  # fmt: skip
        self.estimator = backbone  # for estimates: the same networks, with another decoder
        if settings.early_decoder:
            decoder = load_decoder(backbone, settings.early_decoder)
            self.estimator = dataclasses.replace(backbone, decoder=decoder)
        # A scheduler that takes fewer steps is noticed before it draws.
        self.steps_of_calls = steps_of_calls(make_scheduler(backbone.scheduler, settings.scheduler), settings.steps)

    def draw(self, planned: Sequence[PlannedCandidate], reject: Reject | None = None) -> Iterator[Pair]:
        """Draw candidates in order, batch by batch; a batch may mix triples, shares and guidance scales.

        Each denoising step calls the UNet once for all rows: source and edited pictures, with and without text. Of
        rows that are equal, in a tree, it takes the first.
        If the safety checker blocks a picture, both pictures of its pair become black, and the pair is refused.

        Args:
            planned: candidates to draw.
            reject: function that drops candidates at the step set by `pairs.early_at`. They take no further UNet rows,
                are refused as rejected_early, and their pictures are the estimates; the others are as without it.
        """
        for batch in split_into_batches(planned, self.settings.batch):
            denoised = self.denoise(batch, reject)
            decoded = self._decode(self.backbone, denoised.latents, denoised.same_as)
            for number, each in enumerate(batch):
                source, edited = decoded.get(number), decoded.get(number + len(batch))
                rows = denoised.rows_each[number] + denoised.rows_each[number + len(batch)]
                if source is None or edited is None:
                    yield Pair(_refuse(each.candidate, Reason.REJECTED_EARLY), *denoised.dropped[number], rows)
                elif source.blocked or edited.blocked:
                    pictures = black_out(source.image), black_out(edited.image)
                    yield Pair(_refuse(each.candidate, Reason.UNSAFE), *pictures, rows)
                else:
                    yield Pair(each.candidate, source.image, edited.image, rows)

    def denoise(self, planned: Sequence[PlannedCandidate], reject: Reject | None = None) -> DenoisedPairs:
        """Denoise a batch of candidates, all source pictures before all edited ones.

        Args:
            planned, reject: see `draw`.
        """
        backbone, settings = self.backbone, self.sampling
        candidates = [each.candidate for each in planned]
        texts = [each.caption for each in planned] + [each.edited_caption for each in planned]
        # As in diffusers, 0 is no guidance, too, and not the picture without a caption.
        scales = torch.tensor([candidate.cfg or 1.0 for candidate in candidates] * 2, device=backbone.device)
        negative = (self.settings.negative_prompt,)
        # Two generators of one seed for the two pictures of a pair: they draw the same noise at every step.
        generators = [torch.Generator().manual_seed(candidate.seed) for candidate in candidates * 2]
        sharing = share_with_source(
            backbone.unet, [each.p for each in candidates], self.settings.steps, trees=[each.tree for each in planned],
            features=self.settings.share == "features",
        )  # fmt: skip
        dropped: dict[int, Pictures] = {}
        early_step = self.settings.early_step
        with backbone.lock, sharing as control:

            def prepare_next(call: int, _: Tensor) -> None:
                if call + 1 < len(self.steps_of_calls):
                    control.at(self.steps_of_calls[call + 1])

            def drop(_: int, latents: Tensor) -> None:
                decoded = self._decode(self.estimator, latents, control.same_as)
                pictures = [(decoded[row].image, decoded[row + len(planned)].image) for row in range(len(planned))]
                verdicts = zip(range(len(planned)), reject(planned, pictures) if reject else (), strict=True)
                dropped.update({row: pictures[row] for row, verdict in verdicts if verdict})
                control.drop(dropped)

            denoised = denoise(
                backbone, text_guidance(backbone, settings, texts, negative, scale=scales), settings,
                size=(self.side, self.side), generators=generators, on_step=prepare_next,
                estimates=Estimates(lambda step: step == early_step, drop) if reject and early_step else None,
                same_as=control.same_in_batch,
            )  # fmt: skip
            return DenoisedPairs(*denoised, control.same_as, dropped)

    @staticmethod
    def _decode(backbone: Backbone, latents: Tensor, same_as: Sequence[int | None]) -> dict[int, Decoded]:
        """Decode the pictures of a batch by row: equal ones once, source pictures and edited ones apart."""
        decoded: dict[int | None, Decoded] = {}
        half = len(same_as) // 2
        for rows in (range(half), range(half, 2 * half)):
            if different := [row for row in rows if same_as[row] == row]:
                pictures = zip(*decode(backbone, latents[different]), strict=True)
                decoded |= zip(different, itertools.starmap(Decoded, pictures), strict=True)
        return {row: decoded[first] for row, first in enumerate(same_as) if first is not None}


def plan_candidates(triples: Sequence[Triple], settings: PairsConfig, seed: int) -> list[PlannedCandidate]:
    """Plan the candidates of triples that were not refused, with p ~ U(p_min, p_max) and cfg ~ U(cfg_min, cfg_max).

    The ranges are those of the triple's kind of edit.

    Args:
        triples: triples of one shard.
        settings: settings of the stage.
        seed: seed of the run.
    """
    return [
        each
        for triple in triples
        if triple.status == "ok"
        for number in range(0, settings.candidates, settings.tree)
        for each in plan_tree(triple, number, settings, seed)[: settings.candidates - number]
    ]


def plan_tree(triple: Triple, number: int, settings: PairsConfig, seed: int) -> list[PlannedCandidate]:
    """Plan the candidates of a tree, of one seed, one guidance scale, and a p from each of as many parts of its range.

    Args:
        triple: triple to draw.
        number: number of the tree's first candidate, a multiple of `pairs.tree`.
        settings: settings of the stage.
        seed: seed of the run.
    """
    rng, size = random.Random(derive_seed(seed, "pairs", triple.id, number)), settings.tree
    noise = rng.getrandbits(63)
    settings = settings.for_kind(triple.kind)
    bounds = [(settings.p_min * (size - part) + settings.p_max * part) / size for part in range(size + 1)]
    shares = [round(rng.uniform(*each), 4) for each in itertools.pairwise(bounds)]
    cfg = round(rng.uniform(settings.cfg_min, settings.cfg_max), 4)
    rng.shuffle(shares)  # so that a tree that is not drawn to its end has any of them
    return [
        PlannedCandidate(
            Candidate(
                id=content_id(triple.id, str(number + place)), triple_id=triple.id, seed=noise, p=p, cfg=cfg,
                steps=settings.steps,
            ),
            triple.caption, triple.edited_caption,
        )
        for place, p in enumerate(shares)
    ]  # fmt: skip


def split_into_batches(planned: Sequence[PlannedCandidate], batch: int) -> Iterator[list[PlannedCandidate]]:
    """Yield batches of at most so many candidates, in order; a tree is split only if it is larger."""
    collected: list[PlannedCandidate] = []
    for _, tree in itertools.groupby(planned, lambda each: each.tree):
        members = list(tree)
        if collected and len(collected) + len(members) > batch:
            yield collected
            collected = []
        collected += members
        while len(collected) > batch:
            yield collected[:batch]
            collected = collected[batch:]
    if collected:
        yield collected


def _refuse(candidate: Candidate, reason: Reason) -> Candidate:
    return candidate.model_copy(update={"status": "refused", "reason": reason})
