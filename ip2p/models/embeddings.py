"""Embeddings of new words (textual inversion), in the formats of diffusers, kohya and AUTOMATIC1111.

They are loaded by a temporary diffusers pipeline around the backbone.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
from torch import Tensor

from ip2p.errors import ConfigError, ModelError, one_line
from ip2p.models.backbone import Backbone
from ip2p.models.folder import COMPONENTS, SAFETY_COMPONENTS
from ip2p.models.loading import quiet
from ip2p.models.weight_files import read_weights, require_readable

CLIP_KEYS = ("clip_l", "clip_g")
KEYS_WITHOUT_WORD = {"emb_params", "string_to_param", *CLIP_KEYS}
"""Keys of embedding files that do not name their word; the word is then the file's name."""


def add_embeddings(backbone: Backbone, paths: Sequence[Path], *, allow_pickle: bool = False) -> list[str]:
    """Add the words of embedding files to the tokenizers and text encoders.

    Args:
        backbone: model to change in place.
        paths: paths of embedding files; SDXL's have an embedding for each text encoder.
        allow_pickle: whether to read pickled files too, weights only.

    Returns:
        The words to use in instructions: the one in the file, or else the file's name.

    Raises:
        ModelError: a file is missing, damaged, or of another family of models.
        ConfigError: the tokenizer has the word already.
    """
    return [_add_embedding(backbone, path, allow_pickle) for path in paths]


def _add_embedding(backbone: Backbone, path: Path, allow_pickle: bool) -> str:
    require_readable(path, allow_pickle=allow_pickle)
    found = read_weights(path, allow_pickle=allow_pickle)
    word = str(found.get("name") or (path.stem if KEYS_WITHOUT_WORD & set(found) else next(iter(found), path.stem)))
    vocabulary = backbone.tokenizer.get_vocab()
    added = {each.lower() for each in backbone.tokenizer.get_added_vocab()}  # the tokenizer ignores case
    if word in vocabulary or {word.lower(), f"{word.lower()}_1"} & added:
        raise ConfigError(f"the word {word!r} of {path} is known to the model already", "Rename the file")
    readers = [(backbone.text_encoder, backbone.tokenizer), (backbone.text_encoder_2, backbone.tokenizer_2)]
    readers = readers if backbone.is_xl else readers[:1]
    with _as_pipeline(backbone) as pipeline, _explain_mismatch(path, backbone):
        vectors = _vectors(found, [encoder.config.hidden_size for encoder, _ in readers])
        for each, (text_encoder, tokenizer) in zip(vectors, readers, strict=True):
            pipeline.load_textual_inversion({word: each}, token=word, text_encoder=text_encoder, tokenizer=tokenizer)
    return word


def _vectors(found: Mapping[str, Any], widths: Sequence[int]) -> list[Tensor]:
    """The vectors of an embedding file, one tensor (n, width) or (width,) for each text encoder.

    Raises:
        ValueError: there are none, or their width does not fit.
    """
    plain = found.get("string_to_param") or found  # AUTOMATIC1111's pickles nest them one level deeper
    vectors = [next(iter(plain.values()), None)] if len(widths) == 1 else [found.get(name) for name in CLIP_KEYS]
    for each, width in zip(vectors, widths, strict=True):
        if not isinstance(each, Tensor):
            raise ValueError(f"it has no vectors for text encoder {1 + vectors.index(each)} of {len(widths)}")
        if each.shape[-1] != width:
            raise ValueError(f"its vectors have {each.shape[-1]} numbers, not {width}")
    return [each for each in vectors if isinstance(each, Tensor)]


@contextmanager
def _as_pipeline(backbone: Backbone) -> Iterator[Any]:
    """Context manager with a diffusers pipeline that shares the components of a backbone."""
    components = {name: getattr(backbone, name) for name in COMPONENTS if name not in SAFETY_COMPONENTS}
    if not backbone.is_xl:
        without = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        components = {name: value for name, value in components.items() if value is not None} | without
    with quiet():
        yield getattr(diffusers, backbone.pipeline_class)(**components)


@contextmanager
def _explain_mismatch(path: Path, backbone: Backbone) -> Iterator[None]:
    """Context manager that turns errors of diffusers about an embedding file into a ModelError."""
    try:
        yield
    except (ValueError, RuntimeError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ModelError(
            f"the embedding {path} does not fit {backbone.name} ({one_line(error)})",
            "Give a file that was made for a model of this family",
        ) from error
