"""Names and folders of the models that come with ip2p. Nothing heavy is imported here."""

from pathlib import Path

from ip2p.errors import ModelError

BUNDLED = Path(__file__).parents[1] / "bundled"
"""Folder of the models of storybook's world."""

RECORD_FILE = "training.json"
"""File beside the weights of a bundled model, with the progress of its training and its figures."""
PROGRESS_FILE = "progress.json"
"""File in the folder of an editor that a run wrote, with the state of the run when it had these weights."""

DEFAULT_BASE, DEFAULT_EDITOR = "storybook-base", "storybook-editor"

_FOLDERS = {
    DEFAULT_BASE: BUNDLED / "base",
    DEFAULT_EDITOR: BUNDLED / "editor",
    "storybook-clip-a": BUNDLED / "clip-a",
    "storybook-clip-b": BUNDLED / "clip-b",
    "storybook-judge": BUNDLED / "judge",
}
BUNDLED_NAMES = tuple(_FOLDERS)


def bundled_path(name: str) -> Path:
    """The folder of a bundled model.

    Raises:
        ModelError: there is no such name, or its weights are missing.
    """
    if name not in _FOLDERS:
        raise ModelError(f"there is no bundled model {name!r}", f"Give one of {', '.join(BUNDLED_NAMES)}")
    path = _FOLDERS[name]
    if not any(path.rglob("*.safetensors")):
        how = "python train/finetune.py" if name == DEFAULT_EDITOR else "python train/storybook/base.py"
        raise ModelError(f"the weights of {name} are missing in {path}", f"Install ip2p again, or run `{how}`")
    return path
