"""Parts of a run: its pairs, the base model, widened, its trained weights, and the batches in their order."""

import math
from collections.abc import Callable, Sequence

import torch

from ip2p.models.backbone import Backbone, load_backbone
from ip2p.models.widen import suit_attention, widen_conv_in
from ip2p.train.adapters import Lora, choose_trained
from ip2p.train.batches import Batches
from ip2p.train.config import FinetuneConfig
from ip2p.train.learner import Learner
from ip2p.train.noise_schedule import suit_scheduler
from ip2p.train.objective import EditingModel
from ip2p.train.optimizer import build_optimizer
from ip2p.train.order import arrange, bucket_shapes, nearest_shape
from ip2p.train.pairs import PairDataset, open_pairs, stream_pairs
from ip2p.train.preference import open_preferences
from ip2p.train.ranks import Ranks
from ip2p.train.stream import PairStream, StreamOrder, place_of
from ip2p.train.xl import XlEditingModel, editing_model

ALONE = Ranks()


def prepare(config: FinetuneConfig, device: torch.device) -> tuple[Backbone, EditingModel | XlEditingModel, Learner]:
    """Load the base model, widen its first convolution unless it is an editor, and set up what is trained.

    Args:
        config: settings of the run.
        device: device to train on.

    Raises:
        ModelError: the base model is missing, damaged, or of another kind.
    """
    backbone = load_backbone(config.base, device=device, dtype=torch.float32)
    widened = not backbone.is_editor
    if widened:
        backbone.require("base")  # and no model for inpainting
        widen_conv_in(backbone.unet)
    lora = Lora(config.lora_rank, config.lora_alpha or config.lora_rank, config.lora_modules)
    modules = choose_trained(
        backbone, train_text_encoder=config.train_text_encoder, blocks=config.blocks,
        lora=lora if config.lora_rank else None, widened=widened, seed=config.seed,
    )  # fmt: skip
    suit_attention(backbone.unet, device)
    if config.gradient_checkpointing:
        backbone.unet.enable_gradient_checkpointing()
        for encoder in (backbone.text_encoder, backbone.text_encoder_2) if config.train_text_encoder else ():
            # transformers renames it: 5.3 has the old name alone, and later versions warn of that
            if enable := getattr(encoder, "activation_checkpointing_enable", None) or getattr(
                encoder, "gradient_checkpointing_enable", None
            ):
                enable()
    if device.type == "cuda":  # convolutions on tensor cores want channels last
        for network in (backbone.unet, backbone.vae):
            network.to(memory_format=torch.channels_last)
    backbone.scheduler = suit_scheduler(
        backbone.scheduler, prediction_type=config.prediction_type, zero_terminal_snr=config.zero_terminal_snr
    )
    optimizer = build_optimizer(
        modules, name=config.optimizer, learning_rate=config.learning_rate, weight_decay=config.weight_decay
    )
    ema_device = torch.device("cpu") if config.ema_device == "cpu" else None
    learner = Learner.create(modules, optimizer, ema_decay=config.ema_decay, ema_device=ema_device)
    return backbone, editing_model(backbone), learner


def open_sets(config: FinetuneConfig, *, say: Callable[[str], None]) -> tuple[PairDataset, ...]:
    """Open and check the pairs of a run; those of preferences are two, of chosen and of rejected edits.

    Args:
        config: settings of the run.
        say: function that prints a line.

    Raises:
        DataError: see `open_pairs` and `open_preferences`.
    """
    if config.streaming:
        return (stream_pairs(*config.datasets, say=say),)
    if config.dpo_beta:
        return open_preferences(*config.datasets, say=say)
    masks = config.changed_weight > 0
    return (open_pairs(*config.datasets, bad_rows=config.bad_rows, masks=masks, say=say),)


def count_steps(
    config: FinetuneConfig, pairs: PairDataset, *, processes: int, say: Callable[[str], None]
) -> FinetuneConfig:
    """Return the config with the steps that its epochs are; as it is if it has none.

    Args:
        config: settings of the run.
        pairs: pairs of the run.
        processes: number of processes.
        say: function that prints a line.
    """
    if not config.epochs:
        return config
    one = config.candidates == "one"
    samples = len(set(pairs.triples)) if one else len(pairs.train)
    steps = max(1, math.ceil(config.epochs * samples / (config.batch * config.accumulation * processes)))
    say(f"{config.epochs:g} passes through {samples} {'triples' if one else 'pairs'} are {steps} steps")
    return config.model_copy(update={"steps": steps})


def make_batches(
    pairs: PairDataset,
    backbone: Backbone,
    config: FinetuneConfig,
    *,
    size: int,
    ranks: Ranks = ALONE,
    places: Sequence[Sequence[int]] = (),
    say: Callable[[str], None] = lambda _: None,
) -> Batches:
    """Make the batches of a run, in its order and its shapes.

    Args:
        pairs: pairs of the run.
        backbone: model to train.
        config: settings of the run.
        size: side of the square crop, in pixels.
        ranks: processes of the run.
        places: where each process goes on reading, if pairs are streamed.
        say: function that prints a line.

    Raises:
        ConfigError: pairs were streamed to another number of processes.
    """
    if pairs.shards:
        stream = PairStream(
            pairs.shards.train, seed=config.seed, window=config.shuffle_buffer, ranks=ranks,
            hold_out=not pairs.shards.test, skip=config.bad_rows == "skip", say=say, begin=place_of(places, ranks),
        )  # fmt: skip
        return Batches(
            stream, backbone, size=size, seed=config.seed, flip=config.flip, without=stream, resize=config.resize,
            order=StreamOrder(batch=config.batch, ranks=ranks.total), workers=config.workers,
        )  # fmt: skip
    shapes = None
    if config.buckets:
        allowed = bucket_shapes(size, backbone.side_multiple)
        shapes = [nearest_shape(each, allowed) for each in pairs.sizes]
    triples = pairs.triples if config.candidates == "one" else None
    order = arrange(pairs.parts, seed=config.seed, batch=config.batch, triples=triples, shapes=shapes)
    return Batches(
        pairs.train, backbone, size=size, seed=config.seed, flip=config.flip, order=order, shapes=shapes,
        without=pairs.without, resize=config.resize, workers=config.workers,
        starts=[part.rows.start for part in pairs.parts],
    )  # fmt: skip
