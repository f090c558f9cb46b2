"""Upload a data set to the hub."""

import shlex
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HFValidationError

from ip2p.errors import ConfigError, DataError, one_line
from ip2p.hub import UNREACHABLE, find_obstacle
from ip2p.manifest import verify_dataset


def require_push(name: str) -> None:
    """Check, before a data set is exported, that it may be uploaded under a name.

    Args:
        name: name of the data set, with or without its owner.

    Raises:
        ConfigError: it cannot be uploaded now, or not under that name.
    """
    if obstacle := find_obstacle(name, "--push"):
        fix = "See to that first, or leave out --push: `hf upload` can do it later"
        raise ConfigError(f"--push {name}: {obstacle}", fix)


def push_dataset(folder: Path, name: str) -> str:
    """Upload a folder as a data set of the hub, which is private if it is new; returns its address.

    Args:
        folder: folder of a finished data set, which is compared with its manifest first.
        name: name of the data set, with or without its owner.

    Raises:
        DataError: the folder is damaged, or the hub refuses or cannot be reached.
    """
    verify_dataset(folder)
    api = HfApi()
    try:
        made = api.create_repo(name, repo_type="dataset", private=True, exist_ok=True)
        api.upload_folder(
            repo_id=made.repo_id, repo_type="dataset", folder_path=folder, commit_message="Upload by ip2p"
        )
    except (HFValidationError, *UNREACHABLE) as error:
        command = f"hf upload {name} {shlex.quote(str(folder))} --repo-type dataset --private"
        raise DataError(
            f"{folder} is finished, and not uploaded as {name} ({one_line(error, 160)})",
            f"Log in by `hf auth login` with a token that may write, then `{command}`",
        ) from error
    return str(made)
