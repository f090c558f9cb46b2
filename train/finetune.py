"""Fine-tune an editor from a base model: `accelerate launch train/finetune.py [--config FILE] [key=value ...]`.

Without settings it trains a storybook editor by configs/storybook_finetune.yaml, which takes about 12 minutes on two
CPU cores. The same command resumes a run that was stopped. `ip2p finetune` calls the same function. Commands for
diffusers' train_instruct_pix2pix.py work, too: their flags are settings, see `ip2p.train.flags`.
"""

import argparse
import functools
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ip2p.config import load_config
from ip2p.errors import run_program
from ip2p.train.config import FinetuneConfig
from ip2p.train.flags import add_flags, refuse_unknown, translate

STORYBOOK_CONFIG = "storybook_finetune.yaml"
say = functools.partial(print, flush=True)


def finetune(
    config: str | None = None,
    overrides: Sequence[str] = (),
    *,
    settings: Mapping[str, Any] | None = None,
    dry_run: bool = False,
) -> int:
    """Train an editor with the settings of a config file and of overrides.

    Args:
        config: path of a YAML file, or name of a bundled one; None for storybook_finetune.yaml where the base is of
            storybook's world, and for the paper's settings with any other base.
        overrides: settings as key=value, such as ["steps=200", "out=runs/second"].
        settings: settings by name, in place of those of the file, as flags are.
        dry_run: whether to tell settings, memory and hours only.

    Returns:
        The exit code: 0, or 128 + the signal's number if a signal stopped the run.

    Raises:
        Ip2pError: the config, the data or the model is invalid, or the loss is not finite.
    """
    checked = load_config(FinetuneConfig, config, overrides, sections=settings)
    if config is None and not settings:
        checked = suit_base(checked, overrides)
    if dry_run:
        from ip2p.train.estimate import dry_run as tell

        tell(checked, say)
        return 0
    from ip2p.train.fit import fit  # torch and diffusers take seconds to import; report a wrong key first

    return fit(checked, say=say).exit_code


def suit_base(checked: FinetuneConfig, overrides: Sequence[str]) -> FinetuneConfig:
    """Return the settings that suit the base model where no config says any: storybook's, or the paper's."""
    if _is_storybook(checked.base):
        say(f"settings: {STORYBOOK_CONFIG}, which suits a base of storybook's world")
        return load_config(FinetuneConfig, STORYBOOK_CONFIG, overrides)
    say(
        f"settings: the paper's, which suit Stable Diffusion: {checked.optimizer}, learning rate "
        f"{checked.learning_rate:g} {checked.schedule}, averages {checked.ema_decay:g}, {checked.steps} steps of "
        f"{checked.batch * checked.accumulation} pairs on each process (the paper: 10000 of 1024 in all)"
    )
    return checked


def _is_storybook(base: str) -> bool:
    """Return whether a base is of storybook's world: bundled, or a folder with its closed vocabulary."""
    from pathlib import Path

    from ip2p.models.bundled import BUNDLED_NAMES
    from ip2p.models.vocabulary import read_vocabulary

    return base in BUNDLED_NAMES or read_vocabulary(Path(base)) is not None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; an expected failure prints one line and exits with 2, or a traceback with --debug."""
    parser = argparse.ArgumentParser(
        prog="accelerate launch train/finetune.py", description=__doc__.splitlines()[0], allow_abbrev=False
    )
    parser.add_argument(
        "--config", metavar="FILE", help=f"YAML file or name of a bundled one (default: {STORYBOOK_CONFIG})"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("--dry-run", action="store_true", help="tell settings, GPU memory and hours, and train nothing")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace those of the file")
    add_flags(parser)
    parsed, rest = parser.parse_known_intermixed_args(arguments)

    def work() -> int:
        refuse_unknown(rest, parser)
        flags = translate(vars(parsed), with_defaults=parsed.config is None, overrides=parsed.overrides)
        for line in flags.said if flags else ():
            say(line)
        return finetune(
            parsed.config, parsed.overrides, settings=flags.settings if flags else None, dry_run=parsed.dry_run
        )

    return run_program(work, debug=parsed.debug)


if __name__ == "__main__":
    sys.exit(main())
