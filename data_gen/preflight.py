"""Checks of what comes later, before the triples are paid for in money or hours, and before pairs are drawn."""

import gc

from ip2p.data_gen.build_folder import BuildFolder
from ip2p.data_gen.config import FilterConfig
from ip2p.data_gen.kinds import ALL_KINDS
from ip2p.data_gen.pairs.filter import BOUNDS
from ip2p.data_gen.scale.parallelism import Parallelism
from ip2p.data_gen.servers import judging_server
from ip2p.data_gen.stages import Stages
from ip2p.errors import ConfigError
from ip2p.remote.connection import open_access

COSTLY = ("openai", "openai-batch", "local")
"""Writers whose triples cost money, or hours of a language model on this machine."""


def check_before_paying(stages: Stages, parallelism: Parallelism) -> None:
    """Check that pairs can be drawn, scored and kept, if triples are to be paid for: load all models, ask for the size,
    the scheduler and its steps, and look for thresholds that nothing can pass. Check the judge of the pairs, too.

    Args:
        stages: stages of the build, whose captions are written.
        parallelism: processes that will draw; models stay loaded only for this one.

    Raises:
        ConfigError: a setting does not suit the models, or nothing could pass the filter.
        ModelError: a model or LoRA file is missing, damaged, or of another kind.
        WriterError: there is no key for the judge, or it cannot be sent.
    """
    check_judge(stages)
    if not _are_costly(stages):
        return
    require_passable(stages.config.filter)
    # a language model on this machine needs the memory first
    alone = parallelism == Parallelism() and stages.config.triples.writer != "local"
    opened = stages if alone else _on_this_machine(stages, parallelism)
    opened.open_models()
    if not alone:
        del opened
        _free_memory()


def check_judge(stages: Stages) -> None:
    """Check the address, the key and the price of the judge, without a request, if pairs are to be drawn for it.

    Raises:
        WriterError: there is no key for the judge, or it cannot be sent.
    """
    if stages.config.scores.judge and (not stages.has_triples() or stages.unfinished_pairs()):
        open_access(judging_server(stages.config.scores))


def check_before_writing(stages: Stages) -> None:
    """Check the thresholds alone, before triples are paid for that are drawn later or elsewhere.

    Raises:
        ConfigError: nothing could pass the filter.
    """
    if _are_costly(stages):
        require_passable(stages.config.filter)


def _are_costly(stages: Stages) -> bool:
    """Return whether there are triples left to be paid for."""
    return stages.config.triples.writer in COSTLY and not stages.has_triples()


def require_passable(settings: FilterConfig) -> None:
    """Check that a pair of every kind can pass the filter.

    Raises:
        ConfigError: a threshold is beyond all scores, or a lower one above the upper one of the same score.
    """
    for kind in ("", *(each for each in ALL_KINDS if each in settings.per_kind)):
        bounds = settings.thresholds(kind)
        least: dict[str, tuple[float, str]] = {}
        most: dict[str, tuple[float, str]] = {}
        for name, bound in BOUNDS.items():
            value, key = getattr(bounds, name), f"filter.per_kind.{kind}.{name}" if kind else f"filter.{name}"
            if value is None:
                continue
            low, high = bound.ends
            if not (value <= high if bound.is_least else value >= low):  # as is NaN
                what = f"{key}={value} keeps nothing: the score is from {low:g} to {high:g}"
                raise ConfigError(what, f"Give {key} a value in that range")
            (least if bound.is_least else most)[bound.score] = (value, key)
        for score in least.keys() & most.keys():
            (low, lower), (high, upper) = least[score], most[score]
            if low > high:
                raise ConfigError(f"{lower}={low} is above {upper}={high}, and keeps nothing", f"Lower {lower}")


def _on_this_machine(stages: Stages, parallelism: Parallelism) -> Stages:
    """Return stages of the same build whose models this process loads only to check them."""
    config = stages.config
    if parallelism.engine == "ray":  # the machines that draw have GPUs, perhaps, and this one none
        config = config.model_copy(update={"pairs": config.pairs.model_copy(update={"precision": "fp32"})})
    return Stages(BuildFolder(config, stages.build_folder.origins), stages.say)


def _free_memory() -> None:
    """Give memory of models that nothing refers to back, so that others can have it."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
