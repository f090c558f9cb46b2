"""The two storybook CLIPs: A filters pairs, and B is for evaluation only.

Three quarters of each batch are scenes together with the same scenes after one edit, as hard negatives whose captions
differ in one phrase. Any three of the twelve attributes identify a caption in an ordinary batch, so CLIP would ignore
the small ones. For the same reason a linear layer, used in training only, predicts every attribute from the embeddings
of both pictures and captions.
"""

import copy
import hashlib
import json
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from ip2p.measuring.clip import ClipScorer, Preprocessing
from ip2p.models.loading import load_whole
from ip2p.pictures.contact_sheet import contact_sheet
from ip2p.seeding import derive_seed
from ip2p.shards import atomic_dir
from ip2p.storybook.edits import Case, edit_between, evaluation_cases, possible_edits
from ip2p.storybook.judge import attribute_target
from ip2p.storybook.language import caption, edited_caption
from ip2p.storybook.render import render
from ip2p.storybook.scene import ATTRIBUTES
from ip2p.train.order import ShuffledOrder
from ip2p.train.storybook.tokens import POSITIONS, make_tokenizer
from ip2p.train.storybook.world import World


class Towers(NamedTuple):
    """Widths and numbers of layers of a CLIP's two towers; attention heads of the vision tower are at least 64 wide."""

    vision_width: int
    vision_layers: int
    text_width: int
    text_layers: int


SEEDS = {"clip-a": 1, "clip-b": 2}
TOWERS = {"clip-a": Towers(192, 6, 160, 3), "clip-b": Towers(160, 4, 128, 3)}
"""4 million and 2 million weights: the one that only measures need not be as good as the one that filters."""
IMAGE_SIDE = 128
"""Side of the pictures in pixels for the vision tower: a quarter of the patches that 256 px would have."""

PREPROCESSING = Preprocessing(IMAGE_SIDE, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
MAX_LOGIT_SCALE = math.log(100)
EMBEDDING_WIDTH = 128

RETRIEVAL_GROUP = 100
HARD_NEGATIVES = 8
BLOCK, PAIRED = 8, 6  # of every eight positions, six are single-edit pairs
ATTRIBUTE_WEIGHT = 0.5  # weight of the attribute loss
SHEET_ROWS = 8


class _Sample(NamedTuple):
    """A row of the two concatenated worlds, whether its picture is mirrored, and its caption."""

    row: int
    mirrored: bool
    caption: str


class ClipTask:
    """Trains a CLIP by symmetric InfoNCE, with three quarters single-edit pairs in a batch, and by an attribute loss.

    Of every eight positions, the first six are three scenes, each followed by the same scene after an edit, and the
    other two are any pictures. Captions are drawn anew each time. They never mention left or right, so pictures are
    mirrored at random, both of a pair or neither.

    Args:
        name: clip-a or clip-b, which differ in their seeds and sizes.
        world: scenes of kind "clip".
        edited: the same number of scenes of kind "clip-edited".
        tokenizer: tokenizer from `make_tokenizer`.
        device: device to train on.
    """

    batch = 128
    learning_rate = 1.5e-3
    weight_decay = 0.05
    ema_decay = 0.998

    def __init__(self, name: str, world: World, edited: World, tokenizer: CLIPTokenizer, device: torch.device) -> None:
        assert len(world) == len(edited), f"{len(world)} scenes, {len(edited)} edited"
        self.name, self.seed = name, SEEDS[name]
        self.world, self.edited, self.tokenizer, self.device = world, edited, tokenizer, device
        torch.manual_seed(self.seed)
        self.model = make_clip(tokenizer, TOWERS[name])
        if device.type == "cpu":  # on a CPU these short sequences train 1.5 times as fast without fused attention
            self.model.set_attn_implementation("eager")
        nn.Module.to(self.model, device)
        self.reader = nn.Linear(EMBEDDING_WIDTH, sum(map(len, ATTRIBUTES.values()))).to(device)
        self.modules: dict[str, nn.Module] = {"clip": self.model, "reader": self.reader}
        scenes = [*world.scenes, *edited.scenes]
        self.attributes = torch.tensor([attribute_target(scene) for scene in scenes], device=device)
        words = json.dumps(tokenizer.get_vocab(), sort_keys=True).encode()
        self.settings: Mapping[str, Any] = {
            "task": name, "seed": self.seed, "scenes": len(world), "words": hashlib.sha256(words).hexdigest()[:16],
        }  # fmt: skip
        self.pairs = ShuffledOrder(len(world), derive_seed(self.seed, "clip", "pairs"))
        self.others = ShuffledOrder(2 * len(world), derive_seed(self.seed, "clip", "others"))

    def load(self, bundled: Path) -> None:
        """See Task; the layer that predicts attributes is not bundled and starts from random weights."""
        self.model.load_state_dict(load_whole(CLIPModel, bundled / self.name).state_dict())

    def loss(self, positions: Sequence[int]) -> Tensor:
        """See Task."""
        pictures, captions, attributes = self.samples(positions)
        with torch.no_grad():
            self.model.logit_scale.clamp_(max=MAX_LOGIT_SCALE)
        tokens = self.tokenizer(
            captions, padding="longest", truncation=True, max_length=POSITIONS, return_tensors="pt"
        ).to(self.device)
        seen = self.model.vision_model(pictures.to(self.device)).pooler_output
        read = self.model.text_model(tokens.input_ids, attention_mask=tokens.attention_mask).pooler_output
        images, texts = self.model.visual_projection(seen), self.model.text_projection(read)
        reading = (self._attribute_loss(images, attributes) + self._attribute_loss(texts, attributes)) / 2
        return contrastive_loss(images.float(), texts.float(), self.model.logit_scale) + ATTRIBUTE_WEIGHT * reading

    def samples(self, positions: Sequence[int]) -> tuple[Float[Tensor, "b 3 h w"], list[str], Int[Tensor, "b n"]]:
        """Return pictures in [-1, 1], captions, and attribute indices of shape (b, n) at these positions."""
        drawn = [self._sample(position) for position in positions]
        pictures = torch.cat([self._picture(each) for each in drawn])
        return pictures, [each.caption for each in drawn], self.attributes[[each.row for each in drawn]]

    def _attribute_loss(self, embeddings: Float[Tensor, "b d"], attributes: Int[Tensor, "b n"]) -> Float[Tensor, ""]:
        """Return the mean cross-entropy of attributes predicted from embeddings of norm sqrt(EMBEDDING_WIDTH)."""
        logits = self.reader(EMBEDDING_WIDTH**0.5 * F.normalize(embeddings.float(), dim=-1))
        heads = logits.float().split([len(values) for values in ATTRIBUTES.values()], dim=1)
        return torch.stack([F.cross_entropy(head, attributes[:, k]) for k, head in enumerate(heads)]).mean()

    def sheet(self) -> Image.Image:
        """Return a sheet of held-out pictures, each with the nearest of 100 captions and the scene of that caption."""
        cases = evaluation_cases(RETRIEVAL_GROUP, seed=1)
        pictures = [render(case.scene) for case in cases[:SHEET_ROWS]]
        scorer = self.scorer()
        cosines = scorer.embed_images(pictures) @ scorer.embed_texts([case.caption for case in cases]).T
        found = [cases[index] for index in cosines.argmax(1).tolist()]
        rows = [[picture, render(case.scene)] for picture, case in zip(pictures, found, strict=True)]
        return contact_sheet(rows, [case.caption for case in found], ["picture", "what was found"])

    def scorer(self) -> ClipScorer:
        """Return a scorer with the current weights; puts the model into evaluation mode."""
        return ClipScorer(self.model, self.tokenizer, PREPROCESSING, batch=RETRIEVAL_GROUP)

    def _sample(self, position: int) -> _Sample:
        block, place = divmod(position, BLOCK)
        pair = place < PAIRED
        number = (PAIRED * block + place) // 2 if pair else (BLOCK - PAIRED) * block + place - PAIRED
        rng = random.Random(derive_seed(self.seed, "clip-pair" if pair else "clip-other", str(number)))
        mirrored = rng.random() < 0.5
        if not pair:
            row = self.others.row(number)
            edited, place = divmod(row, len(self.world))
            scene = (self.edited if edited else self.world).scenes[place]
            return _Sample(row, mirrored, caption(scene, rng))
        row = self.pairs.row(number)
        scene, text = self.world.scenes[row], caption(self.world.scenes[row], rng)
        if place % 2 == 0:
            return _Sample(row, mirrored, text)
        edit = edit_between(scene, self.edited.scenes[row])
        return _Sample(len(self.world) + row, mirrored, edited_caption(text, scene, edit))

    def _picture(self, sample: _Sample) -> Float[Tensor, "1 3 h w"]:
        edited, row = divmod(sample.row, len(self.world))
        picture = (self.edited if edited else self.world).pictures([row])
        picture = F.interpolate(picture, (IMAGE_SIDE, IMAGE_SIDE), mode="bicubic", antialias=True)
        return picture.flip(-1) if sample.mirrored else picture


def make_clip(tokenizer: CLIPTokenizer, towers: Towers) -> CLIPModel:
    """Make a CLIP with random weights and patches of 16 px."""
    # gelu is one kernel; OpenAI's quick_gelu takes three passes over memory.
    common = {"projection_dim": EMBEDDING_WIDTH, "hidden_act": "gelu"}
    vision = {
        "hidden_size": towers.vision_width, "intermediate_size": 4 * towers.vision_width,
        "num_hidden_layers": towers.vision_layers, "num_attention_heads": towers.vision_width // 64,
        "image_size": IMAGE_SIDE, "patch_size": 16,
    }  # fmt: skip
    text = {
        "hidden_size": towers.text_width, "intermediate_size": 4 * towers.text_width,
        "num_hidden_layers": towers.text_layers, "num_attention_heads": 4,
        "max_position_embeddings": POSITIONS, "vocab_size": len(tokenizer), "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip
    return CLIPModel(
        CLIPConfig(text_config={**text, **common}, vision_config={**vision, **common}, projection_dim=EMBEDDING_WIDTH)
    )


def contrastive_loss(
    images: Float[Tensor, "b d"], texts: Float[Tensor, "b d"], logit_scale: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """Compute symmetric InfoNCE (Radford et al., arXiv 2103.00020): cross-entropy of exp(logit_scale) * cosines.

    It is computed in fp32 even under autocast, because bf16 rounds logits of up to 100 to steps of 0.5.

    Args:
        images: embeddings of pictures, shape (b, d).
        texts: embeddings of their captions, shape (b, d).
        logit_scale: logarithm of the inverse temperature, a scalar.
    """
    with torch.autocast(images.device.type, enabled=False):
        logits = logit_scale.exp() * F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).T
        own = torch.arange(len(logits), device=logits.device)
        return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def measure(scorer: ClipScorer, count: int = 500) -> dict[str, float]:
    """Measure the accuracy of a CLIP on held-out scenes, in percent.

    retrieval: pictures whose own caption is the nearest of 100 (in groups of 100 cases).
    neighbours: pictures whose own caption is nearer than 8 others that differ from it by one edit.
    direction: edits whose direction score is higher with their own edited caption than with that of another edit.

    Args:
        scorer: CLIP to measure.
        count: number of cases.
    """
    cases = evaluation_cases(count)
    images = scorer.embed_images([render(case.scene) for case in cases])
    texts = scorer.embed_texts([case.caption for case in cases])
    groups = zip(images.split(RETRIEVAL_GROUP), texts.split(RETRIEVAL_GROUP), strict=True)
    found = sum(((i @ t.T).argmax(1) == torch.arange(len(i))).sum().item() for i, t in groups)
    targets = scorer.embed_images([render(case.target) for case in cases])
    nearest, right = 0, 0
    for number, (case, image, text) in enumerate(zip(cases, images, texts, strict=True)):
        others = scorer.embed_texts(other_captions(case, number))
        nearest += bool((others @ image < text @ image).all())
        directions = torch.stack([scorer.embed_texts([case.edited_caption])[0], others[0]]) - text
        true, other = F.cosine_similarity(directions, targets[number] - image).tolist()
        right += true > other
    counted = {"retrieval": found, "neighbours": nearest, "direction": right}
    return {name: 100 * value / count for name, value in counted.items()}


def other_captions(case: Case, number: int) -> list[str]:
    """Return the caption of a case after eight edits other than its own, drawn at random from all possible ones."""
    edits = [edit for edit in possible_edits(case.scene.attributes, "clip", reserved=True) if edit != case.edit]
    drawn = random.Random(derive_seed(0, "clip-neighbours", str(number))).sample(edits, HARD_NEGATIVES)
    return [edited_caption(case.caption, case.scene, edit) for edit in drawn]


def save_clip(task: ClipTask, folder: Path, extra: Mapping[str, str]) -> None:
    """Write the model in fp16 with its tokenizer and preprocessing, atomically.

    Args:
        task: task with the weights to write.
        folder: folder to write, replaced if it exists.
        extra: texts of further files by name, such as "README.md".
    """
    model = copy.deepcopy(task.model).eval()
    with torch.no_grad():
        model.logit_scale.clamp_(max=MAX_LOGIT_SCALE)
    preprocessing = {
        "image_processor_type": "CLIPImageProcessor", "do_resize": True,
        "size": {"height": IMAGE_SIDE, "width": IMAGE_SIDE}, "resample": 3, "do_center_crop": False, "do_rescale": True,
        "do_normalize": True,
        "image_mean": PREPROCESSING.mean, "image_std": PREPROCESSING.std,
    }  # fmt: skip
    with atomic_dir(folder) as temporary:
        model.half().cpu().save_pretrained(temporary)
        tokenizer = make_tokenizer(temporary, POSITIONS)
        assert tokenizer.get_vocab() == task.tokenizer.get_vocab(), "the language changed since this model was made"
        (temporary / "preprocessor_config.json").write_text(json.dumps(preprocessing, indent=2) + "\n")
        for name, text in extra.items():
            (temporary / name).write_text(text)
