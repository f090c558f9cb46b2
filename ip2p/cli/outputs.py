"""Pictures that commands write: their names, whether they may be written, and what is said about them."""

import json
import os
import random
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ip2p.cli import say
from ip2p.errors import ConfigError, ImageError

if TYPE_CHECKING:
    from PIL.Image import Image

    from ip2p.models.backbone import Backbone

OUTCOMES = {"versions", "device", "changed", "blocked", "together"}
"""Parameters of a picture that may differ between two drawings of the same result."""


def sample_seeds(seed: int | None, samples: int) -> list[int]:
    """Seeds of samples, counting up from the first one, which is drawn if None."""
    first = random.SystemRandom().randrange(2**32) if seed is None else seed
    if first + samples > 2**63:
        raise ConfigError(f"--seed {first} leaves no seeds for {samples} samples", "Give a smaller one")
    return [first + sample for sample in range(samples)]


def output_paths(output: Path | None, name: str, seeds: Sequence[int]) -> list[Path]:
    """Paths of samples: NAME-SEED.png; or the given path, with the seed in its name if there are several samples."""
    if output is None:
        return [Path(f"{name}-{seed}.png") for seed in seeds]
    from ip2p.pictures.write import format_of

    format_of(output)
    return [output] if len(seeds) == 1 else [output.with_stem(f"{output.stem}-{seed}") for seed in seeds]


def require_free(
    path: Path, result: Mapping[str, Any], reads: Sequence[Path] = (), *, fix: str = "Give another name with -o"
) -> None:
    """Check, before anything is drawn, that a picture can be written to a path and replaces nothing but itself.

    Args:
        path: picture to write.
        result: parameters by which an earlier picture there is known as the same result.
        reads: files that the command reads.
        fix: instruction that says how to have the picture elsewhere.

    Raises:
        ImageError: another file is there, or nothing can be written there.
    """
    from ip2p.pictures.write import read_parameters

    if path.resolve() in [each.resolve() for each in reads]:
        raise ImageError(f"the result would overwrite {path}", fix)
    parent = next(each for each in path.absolute().parents if each.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise ImageError(f"nothing can be written to {parent}", fix)
    if not path.exists() and not path.is_symlink():
        return
    try:
        found = {} if path.is_symlink() or path.is_dir() else read_parameters(path)
    except ImageError:
        found = {}
    found = {"turns": [found.get("instruction")]} | found
    if any(found.get(name) != value for name, value in result.items()):
        raise ImageError(f"{path} is there and is another picture", f"{fix}, or move it away")


def plan_parameters(backbone: "Backbone", settings: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that all pictures of a command will have, with a model that is loaded.

    Raises:
        ConfigError: a setting cannot be used with the model.
    """
    from ip2p.editing.editor import Editor
    from ip2p.editing.requests import resolve_settings
    from ip2p.models.inference import record_parameters

    return record_parameters(backbone, resolve_settings(backbone, None, None, settings, arguments=Editor.edit))


def require_same(path: Path, planned: Mapping[str, Any], ignored: Collection[str] = ()) -> None:
    """Check, before anything is drawn, that a picture that is there is the very result that is made again.

    Args:
        path: picture to write.
        planned: all parameters that it will have.
        ignored: names of parameters that may differ.

    Raises:
        ImageError: it is another result.
    """
    from ip2p.pictures.write import read_parameters

    if not path.exists():
        return
    found, wanted = read_parameters(path), json.loads(json.dumps(dict(planned)))
    for name in sorted((found.keys() | wanted.keys()) - OUTCOMES - set(ignored)):
        if found.get(name) != wanted.get(name):
            raise ImageError(
                f"{path} is there and was made with another {name}", "Give another name with -o, or move it away"
            )


def write(
    picture: "Image", path: Path, parameters: Mapping[str, Any], source_type: str, about: str = "", hint: str = ""
) -> None:
    """Save a picture with its parameters, and print its name, its seed and what is to be said about it."""
    from ip2p.pictures.write import save_picture

    save_picture(picture, path, parameters, source_type=source_type)
    print(f"{path} (seed {parameters['seed']}{about and f', {about}'})")
    if hint:
        say(f"{path}: {hint}")
