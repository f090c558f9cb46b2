"""Load networks with diffusers and transformers, without their log messages and never with missing weights."""

import logging
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

QUIET_LIBRARIES = ("diffusers", "transformers")

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


def load_whole(loader: Any, source: str | Path, *, what: str = "it", **options: Any) -> Any:
    """Load a network from safetensors, and check that no weights are missing.

    Args:
        loader: class of transformers or diffusers, with a method `from_pretrained`.
        source: folder or hub id.
        what: name of the network in an error.
        options: other arguments of `from_pretrained`.

    Raises:
        ValueError: weights are missing.
        OSError, RuntimeError, KeyError, SafetensorError: the network is missing or damaged.
    """
    with quiet():
        module, info = loader.from_pretrained(source, use_safetensors=True, output_loading_info=True, **options)
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
