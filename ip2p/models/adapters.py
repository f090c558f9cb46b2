"""Small files that change a model: LoRA weights, and embeddings of new words (textual inversion).

diffusers' pipelines read them, in its own formats and those of kohya and AUTOMATIC1111; a pipeline is put around the
backbone for that long.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import diffusers
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ip2p.errors import ConfigError, ModelError, one_line
from ip2p.models.backbone import Backbone
from ip2p.models.folder import COMPONENTS, SAFETY_COMPONENTS
from ip2p.models.loading import quiet
from ip2p.models.single_file import PICKLE_SUFFIXES, read_weights

CLIP_KEYS = ("clip_l", "clip_g")
KEYS_WITHOUT_WORD = {"emb_params", "string_to_param", *CLIP_KEYS}
"""Keys of embedding files that do not say their word, which is then the file's name."""


class Lora(NamedTuple):
    """A LoRA file, and how much of it is added; any number."""

    path: Path
    scale: float = 1.0

    @classmethod
    def parse(cls, text: str) -> "Lora":
        """Of FILE or FILE:SCALE."""
        path, _, scale = text.rpartition(":")
        try:
            return cls(Path(path), float(scale)) if path else cls(Path(text))
        except ValueError:
            return cls(Path(text))


def merge_loras(backbone: Backbone, loras: Sequence[Lora], *, allow_pickle: bool = False) -> None:
    """Add LoRA weights to those of the UNet and the text encoders, for good: an edit takes no longer than without.

    Args:
        backbone: changed in place.
        loras: added one after another.
        allow_pickle: read pickled files too, weights only.

    Raises:
        ModelError: a file is missing, damaged, or of another family of models.
    """
    for path, scale in loras:
        require_readable(path, allow_pickle=allow_pickle)
        with _as_pipeline(backbone) as pipeline, _explain_mismatch(path, "LoRA", backbone):
            pipeline.load_lora_weights(
                str(path.parent), weight_name=path.name, use_safetensors=path.suffix not in PICKLE_SUFFIXES,
                local_files_only=True, adapter_name="lora",
            )  # fmt: skip
            if not pipeline.get_list_adapters():
                raise ValueError("none of its keys is of this model")
            pipeline.fuse_lora(lora_scale=scale)
            pipeline.unload_lora_weights()
        backbone.adapters.append(f"{path.name}:{scale:g}")


def add_embeddings(backbone: Backbone, paths: Sequence[Path], *, allow_pickle: bool = False) -> list[str]:
    """Teach the tokenizers and text encoders new words.

    Args:
        backbone: changed in place.
        paths: of embeddings; SDXL's have one for each text encoder.
        allow_pickle: read pickled files too, weights only.

    Returns:
        The words, to be used in instructions: as the file says, else its name.

    Raises:
        ModelError: a file is missing, damaged, or of another family of models.
        ConfigError: the model knows the word already.
    """
    return [_add_embedding(backbone, path, allow_pickle) for path in paths]


def _add_embedding(backbone: Backbone, path: Path, allow_pickle: bool) -> str:
    require_readable(path, allow_pickle=allow_pickle)
    found = read_weights(path, allow_pickle=allow_pickle)
    word = str(found.get("name") or (path.stem if KEYS_WITHOUT_WORD & set(found) else next(iter(found), path.stem)))
    if word in backbone.tokenizer.get_vocab():
        raise ConfigError(f"the word {word!r} of {path} is known to the model already", "Rename the file")
    readers = [(backbone.text_encoder, backbone.tokenizer), (backbone.text_encoder_2, backbone.tokenizer_2)]
    readers = readers if backbone.is_xl else readers[:1]
    with _as_pipeline(backbone) as pipeline, _explain_mismatch(path, "embedding", backbone):
        vectors = _vectors(found, [encoder.config.hidden_size for encoder, _ in readers])
        for each, (text_encoder, tokenizer) in zip(vectors, readers, strict=True):
            pipeline.load_textual_inversion({word: each}, token=word, text_encoder=text_encoder, tokenizer=tokenizer)
    backbone.adapters.append(path.name)
    return word


def _vectors(found: Mapping[str, Any], widths: Sequence[int]) -> list[Tensor]:
    """Of an embedding file, for each text encoder, (n, width) or (width,).

    Raises:
        ValueError: there are none, or they are of another width.
    """
    plain = found.get("string_to_param") or found  # AUTOMATIC1111's pickles lay them a level deeper
    vectors = [next(iter(plain.values()), None)] if len(widths) == 1 else [found.get(name) for name in CLIP_KEYS]
    for each, width in zip(vectors, widths, strict=True):
        if not isinstance(each, Tensor):
            raise ValueError(f"it has no vectors for text encoder {1 + vectors.index(each)} of {len(widths)}")
        if each.shape[-1] != width:
            raise ValueError(f"its vectors have {each.shape[-1]} numbers, not {width}")
    return [each for each in vectors if isinstance(each, Tensor)]


def require_readable(path: Path, *, allow_pickle: bool = False) -> None:
    """Check that a file is there and of a kind that may be read.

    Raises:
        ModelError: it is not.
    """
    if not path.is_file():
        raise ModelError(f"there is no file {path}", "Check the name")
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt"):
                return
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{path} is damaged ({one_line(error)})", "Download it again") from error
    if path.suffix not in PICKLE_SUFFIXES or not allow_pickle:
        raise ModelError(
            f"{path} is not .safetensors",
            "Give a .safetensors file, or allow a pickled one with allow_pickle=True",
            arguments=["allow_pickle"],
        )


@contextmanager
def _as_pipeline(backbone: Backbone) -> Iterator[Any]:
    """A pipeline of diffusers around the components of a backbone, sharing them."""
    components = {name: getattr(backbone, name) for name in COMPONENTS if name not in SAFETY_COMPONENTS}
    if not backbone.is_xl:
        without = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        components = {name: value for name, value in components.items() if value is not None} | without
    with quiet():
        yield getattr(diffusers, backbone.pipeline_class)(**components)


@contextmanager
def _explain_mismatch(path: Path, what: str, backbone: Backbone) -> Iterator[None]:
    """What diffusers and peft say of a file that does not fit, as an error of ours."""
    try:
        yield
    except (ValueError, RuntimeError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ModelError(
            f"the {what} {path} does not fit {backbone.name} ({one_line(error)})",
            "Give a file that was made for a model of this family",
        ) from error
