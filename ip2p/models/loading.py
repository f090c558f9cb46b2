"""Load networks with diffusers and transformers, without their log messages and never with missing weights."""

import logging
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from ip2p.errors import Ip2pError, ModelError, one_line

QUIET_LIBRARIES = ("diffusers", "transformers")
ATTENTION = "sdpa"
"""Attention of networks of transformers. A config may name one, by which code would be fetched from the hub."""
DAMAGED_HINT = "Download it again, or train it again"

# diffusers imports image processors that need torchvision; transformers warns that it uses others, as intended.
logging.getLogger("transformers.utils.import_utils").addFilter(
    lambda record: "requires torchvision" not in record.getMessage()
)


@contextmanager
def quiet() -> Iterator[None]:
    """Context manager that hides the progress bars, log messages and some warnings of diffusers and transformers."""
    # Only those that are imported already: a language model needs no diffusers, which takes a second to import.
    logs = [import_module(f"{name}.utils.logging") for name in QUIET_LIBRARIES if name in sys.modules]
    before = [(log, log.get_verbosity(), log.is_progress_bar_enabled()) for log in logs]
    for log in logs:
        log.set_verbosity(log.CRITICAL)
        log.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # peft reads it from transformers' models.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
            yield
    finally:
        for log, verbosity, bars in before:
            log.set_verbosity(verbosity)
            if bars:
                log.enable_progress_bar()


@contextmanager
def explain(what: str, hint: str = DAMAGED_HINT) -> Iterator[None]:
    """Context manager that turns whatever a library raises about a damaged model into a ModelError.

    Args:
        what: name of what is loaded, such as "the unet of storybook-base".
        hint: remedy.

    Raises:
        ModelError: something was raised.
    """
    try:
        yield
    except Ip2pError:
        raise
    except Exception as error:
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            raise ModelError(
                f"there is not enough memory for {what}", "Give a smaller model, or more memory"
            ) from error
        usual = isinstance(error, OSError | ValueError | RuntimeError)
        said = one_line(error) if usual else f"{type(error).__name__}: {one_line(error)}"
        raise ModelError(f"cannot load {what} ({said})", hint) from error


def load_whole(loader: Any, source: str | Path, *, what: str = "it", **options: Any) -> Any:
    """Load a network, from safetensors unless the options say otherwise, and check that no weights are missing.

    Args:
        loader: class of transformers or diffusers, with a method `from_pretrained`.
        source: folder or hub id.
        what: name of the network in an error.
        options: other arguments of `from_pretrained`.

    Raises:
        ValueError: weights are missing.
        OSError, RuntimeError, KeyError, SafetensorError: the network is missing or damaged.
    """
    options = {"use_safetensors": True} | options
    if loader.__module__.startswith("transformers."):
        options = {"attn_implementation": ATTENTION} | options
    with quiet():
        module, info = loader.from_pretrained(source, output_loading_info=True, **options)
    refuse_missing(info["missing_keys"], what)
    return module


def refuse_missing(names: Iterable[str], what: str = "it") -> None:
    """Refuse a network with missing weights, which libraries would initialize at random.

    Args:
        names: names of the missing weights.
        what: name of the network in an error.

    Raises:
        ValueError: there are missing weights.
    """
    missing = sorted(names)
    if missing:
        several = f"{len(missing)} weights, such as {missing[0]}"
        raise ValueError(f"{what} lacks {several if missing[1:] else f'the weight {missing[0]}'}")
