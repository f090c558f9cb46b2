"""The hub: what an upload needs is checked before a run begins, and the editor is uploaded at its end."""

from collections.abc import Callable
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HFValidationError

from ip2p.errors import one_line
from ip2p.hub import UNREACHABLE, find_obstacle


def require_hub(name: str, *, say: Callable[[str], None]) -> None:
    """Check that a model may be uploaded under a name: the hub knows the token, and the owner is right.

    Who is not logged in yet, or has no way to the hub, is told so and may train: the upload is at the end.

    Args:
        name: name of the model, with or without its owner.
        say: function that prints a line, if it could not be uploaded now.

    Raises:
        ConfigError: the name is none, the token is refused, or its owner may not write there.
    """
    if obstacle := find_obstacle(name, "push_to_hub"):
        say(f"push_to_hub={name}: {obstacle}; the editor is uploaded at the end if it can be then, or stays here")


def push_editor(folder: Path, name: str) -> str:
    """Upload an editor to the hub as a private model; returns a line that says where it is, or why it is not there.

    A hub that cannot be reached costs no run: the editor is whole in its folder.

    Args:
        folder: folder of the editor.
        name: name of the model, with or without its owner.
    """
    api = HfApi()
    try:
        made = api.create_repo(name, private=True, exist_ok=True)
        api.upload_folder(repo_id=made.repo_id, folder_path=folder, commit_message="Upload by ip2p")
    except (HFValidationError, *UNREACHABLE) as error:
        return (
            f"not uploaded as {name} ({one_line(error, 160)}); log in by `hf auth login`, then "
            f"`hf upload {name} {folder}`"
        )
    return f"uploaded: {made}"
