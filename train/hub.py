"""The hub: what an upload needs is checked before a run begins, and the editor is uploaded at its end."""

from collections.abc import Callable
from pathlib import Path

from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from ip2p.errors import ConfigError, one_line

UNREACHABLE = (HfHubHTTPError, OfflineModeIsEnabled, OSError, ValueError)


def require_hub(name: str, *, say: Callable[[str], None]) -> None:
    """Check that a model may be uploaded under a name: the hub knows the token, and the owner is right.

    Who is not logged in yet, or has no way to the hub, is told so and may train: the upload is at the end.

    Args:
        name: name of the model, with or without its owner.
        say: function that prints a line, if it could not be uploaded now.

    Raises:
        ConfigError: the name is none, the token is refused, or its owner may not write there.
    """
    later = "or leave out push_to_hub: `hf upload` can do it later"
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        what = f"push_to_hub={name} is no name of a model ({one_line(error, 160)})"
        raise ConfigError(what, "Give owner/name") from error
    if constants.is_offline_mode():
        say(f"push_to_hub={name}: the hub is switched off by HF_HUB_OFFLINE, so the editor stays in its folder")
        return
    if not get_token():
        say(f"push_to_hub={name}: nobody is logged in; run `hf auth login` before the end, or the editor stays here")
        return
    try:
        who = HfApi().whoami()
    except UNREACHABLE as error:
        if getattr(getattr(error, "response", None), "status_code", None) in (401, 403):
            what = "push_to_hub is set, and the hub refuses the token"
            raise ConfigError(what, f"Run `hf auth login`, {later}") from error
        say(f"the hub cannot be asked now ({one_line(error, 160)}); {name} is uploaded at the end if it can be then")
        return
    owner, _, model = name.rpartition("/")
    owners = [str(who["name"]), *(str(each["name"]) for each in who.get("orgs", ()))]
    if owner and owner not in owners:
        raise ConfigError(
            f"push_to_hub={name}: you are logged in as {' and '.join(owners)}", f"Give {owners[0]}/{model}, {later}"
        )


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
