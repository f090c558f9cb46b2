"""Pictures that commands write: their names, whether they may be written, and what is said about them."""

import json
import os
import random
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

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

    parent = next(each for each in path.absolute().parents if each.exists() or each.is_symlink())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise ImageError(f"nothing can be written to {parent}", fix)
    if path.resolve() in [each.resolve() for each in reads]:
        raise ImageError(f"the result would overwrite {path}", fix)
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
    if path.exists() and (name := _difference(path, planned, ignored)):
        raise ImageError(
            f"{path} is there and was made with another {name}", "Give another name with -o, or move it away"
        )


def _difference(path: Path, wanted: Mapping[str, Any], ignored: Collection[str] = ()) -> str | None:
    """The first parameter in which a picture differs from the wanted ones; None if it is the same result.

    Raises:
        ImageError: it cannot be read, or has no parameters.
    """
    from ip2p.pictures.write import read_parameters

    found, wanted = read_parameters(path), json.loads(json.dumps(dict(wanted)))
    names = sorted((found.keys() | wanted.keys()) - OUTCOMES - set(ignored))
    return next((name for name in names if found.get(name) != wanted.get(name)), None)


class Result(NamedTuple):
    """A picture to write.

    Args:
        picture: RGB or RGBA picture.
        path: path of its file.
        parameters: its parameters, a seed among them.
        about: what is said about it beside its name and seed.
        hint: what is said about it on a line of its own.
        ignored: names of parameters in which an earlier picture that it replaces may differ.
    """

    picture: "Image"
    path: Path
    parameters: Mapping[str, Any]
    about: str = ""
    hint: str = ""
    ignored: Collection[str] = ()


def write(results: Sequence[Result], source_type: str) -> None:
    """Save pictures with their parameters, then print their names, their seeds and what is to be said about them.

    A file that has come to be at a path since it was found free is left there: the picture gets another name.
    """
    from ip2p.pictures.write import save_picture

    written = []
    for each in results:  # all of them before anything is printed, which may fail
        path = _free_path(each.path, each.parameters, each.ignored)
        save_picture(each.picture, path, each.parameters, source_type=source_type)
        written.append(path)
    for each, path in zip(results, written, strict=True):
        print(f"{path} (seed {each.parameters['seed']}{each.about and f', {each.about}'})")
        if path != each.path:
            say(f"{each.path} appeared while this was drawn, and is another picture: the result is {path}")
        if each.hint:
            say(f"{path}: {each.hint}")


def _free_path(path: Path, parameters: Mapping[str, Any], ignored: Collection[str]) -> Path:
    """A path at which a picture replaces nothing but itself: the given one, or else with a number in its name."""
    free, numbers = path, count(2)
    while free.exists() or free.is_symlink():
        with suppress(ImageError):
            if not free.is_symlink() and _difference(free, parameters, ignored) is None:
                break
        free = path.with_stem(f"{path.stem}-{next(numbers)}")
    return free
