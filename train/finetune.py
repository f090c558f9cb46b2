"""Fine-tune an editor from a base model: `accelerate launch train/finetune.py [--config FILE] [key=value ...]`.

The default is configs/storybook_finetune.yaml, which takes about 12 minutes on two CPU cores. The same command resumes
a run that was stopped. `ip2p finetune` calls the same function.
"""

import argparse
import functools
import sys
from collections.abc import Sequence

from ip2p.config import load_config
from ip2p.errors import Ip2pError
from ip2p.train.config import FinetuneConfig

DEFAULT_CONFIG = "storybook_finetune.yaml"


def finetune(config: str | None = None, overrides: Sequence[str] = ()) -> int:
    """Train an editor with the settings of a config file and of overrides.

    Args:
        config: path of a YAML file, or name of a bundled one; None for storybook_finetune.yaml.
        overrides: settings as key=value, such as ["steps=200", "out=runs/second"].

    Returns:
        The exit code: 0, or 128 + the signal's number if a signal stopped the run.

    Raises:
        Ip2pError: the config, the data or the model is invalid, or the loss is not finite.
    """
    checked = load_config(FinetuneConfig, config or DEFAULT_CONFIG, overrides)
    from ip2p.train.fit import fit  # torch and diffusers take seconds to import; report a wrong key first

    return fit(checked, say=functools.partial(print, flush=True)).exit_code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; an expected failure prints one line and exits with 2, or a traceback with --debug."""
    parser = argparse.ArgumentParser(prog="accelerate launch train/finetune.py", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--config", metavar="FILE", help=f"YAML file or name of a bundled one (default: {DEFAULT_CONFIG})"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace those of the file")
    parsed = parser.parse_args(arguments)
    try:
        return finetune(parsed.config, parsed.overrides)
    except Ip2pError as error:
        if parsed.debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
