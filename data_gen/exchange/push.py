"""Upload a data set to the hub."""

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

from ip2p.errors import DataError, one_line
from ip2p.manifest import verify_dataset


def push_dataset(folder: Path, name: str) -> str:
    """Upload a folder as a data set of the hub, which is private if it is new; returns its address.

    Args:
        folder: folder of a finished data set, which is compared with its manifest first.
        name: owner and name of the data set.

    Raises:
        DataError: the folder is damaged, or the hub refuses or cannot be reached.
    """
    verify_dataset(folder)
    api = HfApi()
    try:
        url = api.create_repo(name, repo_type="dataset", private=True, exist_ok=True)
        api.upload_folder(repo_id=name, repo_type="dataset", folder_path=folder, commit_message="Upload by ip2p")
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError, ValueError) as error:
        raise DataError(
            f"cannot upload to the data set {name} of the hub ({one_line(error, 160)})",
            "Log in by `hf auth login` with a token that may write, and check the name, owner/name",
        ) from error
    return str(url)
