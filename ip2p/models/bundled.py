"""The models that come with ip2p: what they are called, and where they lie. Nothing heavy is imported to know that."""

from pathlib import Path

from ip2p.errors import ModelError

BUNDLED = Path(__file__).parents[1] / "bundled"
BUNDLED_NAMES = ("storybook-base", "storybook-editor", "storybook-clip-a", "storybook-clip-b", "storybook-judge")


def bundled_path(name: str) -> Path:
    """Folder of a model that comes with ip2p.

    Raises:
        ModelError: no such name, or its weights are not there.
    """
    if name not in BUNDLED_NAMES:
        raise ModelError(f"ip2p brings no model {name!r}", f"It brings {', '.join(BUNDLED_NAMES)}")
    path = BUNDLED / name.removeprefix("storybook-")
    if not any(path.rglob("*.safetensors")):
        how = "python train/finetune.py" if name == "storybook-editor" else "python train/base.py"
        raise ModelError(f"the weights of {name} are missing in {path}", f"Install ip2p again, or run `{how}`")
    return path
