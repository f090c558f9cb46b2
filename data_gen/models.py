"""The models that make the pairs of a build: loaded as its settings say, and recorded in its folder."""

from typing import TYPE_CHECKING

from ip2p.data_gen.build_folder import BuildFolder
from ip2p.device import best_device
from ip2p.errors import ConfigError

if TYPE_CHECKING:
    from ip2p.data_gen.pairs.draw import PairMaker
    from ip2p.data_gen.pairs.scores import Scorers


def load_maker(build_folder: BuildFolder) -> "PairMaker":
    """Load the base model, with what is merged into it, and make a pair maker of it.

    Raises:
        ConfigError: a setting of the pairs does not suit the model, or this machine.
        ModelError: the model, or a file of it, is missing, damaged, or of another kind.
    """
    from ip2p.data_gen.pairs.draw import PairMaker
    from ip2p.models.inference import load_for_inference
    from ip2p.models.lora import Lora

    settings, device = build_folder.config.pairs, best_device()
    if device.type == "cpu" and settings.precision == "fp16":
        raise ConfigError(
            f"pairs.precision={settings.precision} is for a GPU",
            "Give pairs.precision=fp32, or bf16 if this CPU computes it",
        )
    backbone = load_for_inference(
        settings.model, device=device, precision=settings.precision, want="base",
        safety_checker=settings.safety_checker, vae=settings.vae or None,
        loras=[Lora.parse(text) for text in settings.loras],
    )  # fmt: skip
    maker = PairMaker(backbone, settings)
    given = {"model": True, "vae": settings.vae, "loras": settings.loras, "early_decoder": settings.early_decoder}
    build_folder.record_models(*(f"pairs.{name}" for name, value in given.items() if value))
    return maker


def load_scorers(build_folder: BuildFolder) -> "Scorers":
    """Load the networks that score pairs.

    Raises:
        ModelError: a model is missing, damaged, or of another kind.
    """
    from ip2p.data_gen.pairs.scores import Scorers
    from ip2p.measuring.clip import ClipScorer
    from ip2p.measuring.layout import DinoLayout

    settings, device = build_folder.config.scores, best_device()
    clip = ClipScorer.from_pretrained(settings.clip, device=device)
    build_folder.record_models("scores.clip")
    if not settings.dino:
        return Scorers(clip)
    dino = DinoLayout.from_pretrained(settings.dino, device=device)
    build_folder.record_models("scores.dino")
    return Scorers(clip, dino)
