"""Networks by the loaders of other libraries: without their chatter, and never with weights missing."""

import logging
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

LIBRARIES = ("diffusers", "transformers")

# diffusers imports image processors that want torchvision; transformers warns that it takes others, which we want.
logging.getLogger("transformers.utils.import_utils").addFilter(
    lambda record: "requires torchvision" not in record.getMessage()
)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep away progress bars of a blink, and warnings that libraries mean for programmers."""
    # Those that are loaded already: a language model needs no diffusers, which takes a second to import.
    logs = [import_module(f"{name}.utils.logging") for name in LIBRARIES if name in sys.modules]
    before = [(log, log.get_verbosity(), log.is_progress_bar_enabled()) for log in logs]
    for log in logs:
        log.set_verbosity(log.CRITICAL)
        log.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # peft asks transformers' models for it.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
            yield
    finally:
        for log, verbosity, bars in before:
            log.set_verbosity(verbosity)
            if bars:
                log.enable_progress_bar()


def load_whole(loader: Any, source: str | Path, *, what: str = "it", **options: Any) -> Any:
    """Load a network from safetensors, with all of its weights.

    Args:
        loader: class of transformers or diffusers, with a method `from_pretrained`.
        source: folder or hub id.
        what: name of the network in an error.
        options: more arguments of `from_pretrained`.

    Raises:
        ValueError: it lacks weights.
        OSError, RuntimeError, KeyError, SafetensorError: it is not there, or damaged.
    """
    with quiet():
        module, info = loader.from_pretrained(source, use_safetensors=True, output_loading_info=True, **options)
    refuse_missing(info["missing_keys"], what)
    return module


def refuse_missing(names: Iterable[str], what: str = "it") -> None:
    """Refuse a network that lacks weights; libraries would put random numbers in their place.

    Raises:
        ValueError: there is a name.
    """
    missing = sorted(names)
    if missing:
        several = f"{len(missing)} weights, such as {missing[0]}"
        raise ValueError(f"{what} lacks {several if missing[1:] else f'the weight {missing[0]}'}")
