"""The hub: whether something may be uploaded under a name is checked before the work that it is for."""

from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from ip2p.errors import ConfigError, one_line

UNREACHABLE = (HfHubHTTPError, OfflineModeIsEnabled, OSError, ValueError)


def find_obstacle(name: str, option: str) -> str:
    """Return why nothing can be uploaded under a name now; "" if it can, as far as the hub knows token and owner.

    Args:
        name: name on the hub, with or without its owner.
        option: option or setting that asks for the upload, for errors.

    Raises:
        ConfigError: the name is none, the token is refused, or its owner may not write there.
    """
    later = f"or leave out {option}: `hf upload` can do it later"
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        what = f"{option}: {name} is no name on the hub ({one_line(error, 160)})"
        raise ConfigError(what, "Give owner/name") from error
    if constants.is_offline_mode():
        return "the hub is switched off by HF_HUB_OFFLINE"
    if not get_token():
        return "nobody is logged in by `hf auth login`"
    try:
        who = HfApi().whoami()
    except UNREACHABLE as error:
        if getattr(getattr(error, "response", None), "status_code", None) in (401, 403):
            raise ConfigError(f"{option}: the hub refuses the token", f"Run `hf auth login`, {later}") from error
        return f"the hub cannot be asked now ({one_line(error, 160)})"
    owner, _, own = name.rpartition("/")
    owners = [str(who["name"]), *(str(each["name"]) for each in who.get("orgs", ()))]
    if owner and owner not in owners:
        what = f"{option}: you are logged in as {' and '.join(owners)}, not as {owner}"
        raise ConfigError(what, f"Give {owners[0]}/{own}, {later}")
    return ""
