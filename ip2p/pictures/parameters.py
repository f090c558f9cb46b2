"""Parameters of a picture as text for viewers of generated pictures, and as the command that draws it again."""

import json
import re
import shlex
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ip2p.settings import ALL_SETTINGS, SCHEDULERS
from ip2p.shards import hash_file
from ip2p.version import __version__

# The text has the format of the Stable Diffusion web UI, whose names many programs know.
WEB_UI_NAMES = {
    name: ALL_SETTINGS[name].web_ui_name for name in ("steps", "scheduler", "text_scale", "scale", "image_scale")
} | {"seed": "Seed", "size": "Size", "model": "Model"}
WEB_UI_SAMPLERS = {name: entry.web_ui_name for name, entry in SCHEDULERS.items()}
EDIT_NAMES = {"Image CFG scale", "Image scales"}
PROMPT_KEYS = ("instruction", "caption")
NOT_LISTED = (*PROMPT_KEYS, "negative_prompt", "versions")
CLI_OPTIONS = {name: setting.flags[0] for name, setting in ALL_SETTINGS.items()} | {
    "seed": "--seed", "negative_prompt": "--negative-prompt", "text_scales": "--text-scales",
    "image_scales": "--image-scales", "mask": "--mask", "frame": "--frame", "native": "--native",
    "model": "--model", "weights": "--weights", "config": "--config",
    "allow_pickle": "--allow-pickle", "safety_checker": "--safety-checker", "lora": "--lora",
    "embedding": "--embedding", "decoder": "--decoder", "precision": "--precision", "compiled": "--compile",
    "vae_tiling": "--vae-tiling",
}  # fmt: skip
COMMA_LISTS = ("text_scales", "image_scales")
FILE_KEYS = ("input", "mask")
UNFINISHED = {"step", "turn"}  # keys of intermediate pictures
LIST_KEYS = (*COMMA_LISTS, "turns", "lora", "embedding", "changed")
CONSTANTS = {"True": True, "False": False, "None": None}
PAIR = re.compile(r'\s*([^:,"\n]{1,60}):\s*("(?:[^"\\]|\\.)*"|\{[^}]*\}|[^,]*)(?:,|$)')
MIN_PAIRS = 3
NEGATIVE = "Negative prompt:"
MAX_TEXT_CHARACTERS = 100_000


def as_text(parameters: Mapping[str, Any], size: tuple[int, int]) -> str:
    """Format parameters: the prompt, the negative prompt if there is one, and a line of `Name: value` pairs.

    Args:
        parameters: parameters of a picture by name.
        size: width and height of the picture in pixels.
    """
    prompt = next((str(parameters[key]) for key in PROMPT_KEYS if key in parameters), "")
    given = {**parameters, "size": f"{size[0]}x{size[1]}"}
    if "scheduler" in given:
        given["scheduler"] = WEB_UI_SAMPLERS.get(str(given["scheduler"]), given["scheduler"])
    known = {name: given[key] for key, name in WEB_UI_NAMES.items() if key in given}
    others = {_title(key): value for key, value in parameters.items() if key not in (*WEB_UI_NAMES, *NOT_LISTED)}
    pairs = {**known, **others, "Version": f"ip2p {__version__}"}
    negative = " ".join(str(parameters.get("negative_prompt", "")).split())
    lines = (
        prompt,
        f"{NEGATIVE} {negative}" if negative else "",
        ", ".join(f"{name}: {_quote(value)}" for name, value in pairs.items()),
    )
    return "\n".join(filter(None, lines))


def from_text(text: str) -> dict[str, Any]:
    """Parse the text of `as_text`, or of another program under the names that it uses.

    A text without pairs gives no parameters.
    """
    prompt, _, line = text[:MAX_TEXT_CHARACTERS].strip().rpartition("\n")
    pairs = _parse_pairs(line)
    if not pairs:
        return {}
    before, found, after = f"\n{prompt}".rpartition(f"\n{NEGATIVE}")
    prompt, negative = (before.strip(), after.strip()) if found else (prompt, "")
    if _unquote(pairs.get("Version", "")).startswith("ip2p "):
        key = "instruction" if EDIT_NAMES & pairs.keys() else "caption"
        texts = {key: prompt, "negative_prompt": negative}
        return {name: text for name, text in texts.items() if text} | _to_own_names(pairs)
    unquoted = {name: _unquote(value) for name, value in pairs.items()}
    named = {"Prompt": prompt.strip(), "Negative prompt": negative, **unquoted}
    return {name: value for name, value in named.items() if value}


def describe_source(
    image: Path, *, mask: Path | None = None, frame: int | None = None, native: bool = False
) -> dict[str, Any]:
    """The parameters of an edited file: its name, its hash, and the options that it was opened with."""
    found = {
        "input": image.name, "input_sha256": hash_file(image), "frame": frame, "native": native or None,
        "mask": mask.name if mask else None, "mask_sha256": hash_file(mask) if mask else None,
    }  # fmt: skip
    return {name: value for name, value in found.items() if value is not None}


def command(parameters: Mapping[str, Any], output: str) -> str | None:
    """The shell command that draws a picture again; None if no command of ip2p drew it.

    Args:
        parameters: parameters of the picture; without "input", a placeholder stands for the edited picture.
        output: name of the file to write.
    """
    if not UNFINISHED.isdisjoint(parameters):
        return None
    if "instruction" in parameters:
        instructions = parameters.get("turns") or [parameters["instruction"]]
        name = "grid" if "text_scales" in parameters else "edit"
        words, named = ["ip2p", name], [str(parameters.get("input", "PICTURE")), *map(str, instructions)]
    elif "caption" in parameters:
        words, named = ["ip2p", "generate"], [str(parameters["caption"])]
    else:
        return None
    options = [word for key in CLI_OPTIONS if key in parameters for word in _option(key, parameters[key])]
    options += ["-o", output]
    if any(word.startswith("-") for word in named):
        words += [*options, "--", *named]
    else:
        words += [*named, *options]
    return " ".join(map(_quote_for_shell, words))


def _option(key: str, value: Any) -> list[str]:
    """Words of a command line that set an option; none for None."""
    flag = CLI_OPTIONS[key]
    if isinstance(value, bool):
        return [flag if value else flag.replace("--", "--no-", 1)]
    if isinstance(value, list) and key in COMMA_LISTS:
        return [flag, ",".join(map(str, value))]
    several = value if isinstance(value, list) else [] if value is None else [value]
    return [word for each in several for word in (flag, str(each))]


def slug(text: str) -> str:
    """Text as a part of a file name, in any script."""
    words = re.sub(r"[\W_]+", "-", unicodedata.normalize("NFC", text).lower()).strip("-")[:60]
    return words.encode()[:120].decode(errors="ignore").rstrip("-") or "picture"


def printable(value: object) -> str:
    """A value on one line without control characters."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text if text.isprintable() else json.dumps(text)


def _title(key: str) -> str:
    return key.replace("_", " ").capitalize()


def _quote(value: object) -> str:
    """Format a value; as a JSON string if it is a list, or a text that would be read as something else."""
    text = json.dumps(value) if isinstance(value, list | tuple) else str(value)
    unclear = isinstance(value, str) and (_parse(value) != value or value != value.strip())
    return json.dumps(text, ensure_ascii=False) if unclear or re.search(r'[,:\n"{]', text) else text


def _parse_pairs(line: str) -> dict[str, str]:
    """Parse `Name: value` pairs, values as they stand; empty if the line has anything else, or fewer than three."""
    found, place = {}, 0
    while place < len(line):
        pair = PAIR.match(line, place)
        if pair is None:
            return {}
        found[pair[1].strip()] = pair[2].strip()
        place = pair.end()
    return found if len(found) >= MIN_PAIRS else {}


def _unquote(value: str) -> str:
    try:
        return str(json.loads(value)) if value.startswith('"') else value
    except ValueError:
        return value


def _to_own_names(pairs: Mapping[str, str]) -> dict[str, Any]:
    """Rename pairs of `as_text` to our own names, and parse numbers."""
    other = "scale" if EDIT_NAMES & pairs.keys() else "text_scale"  # other programs call both CFG scale
    keys = {name: key for key, name in WEB_UI_NAMES.items() if key != other}
    schedulers = {sampler: name for name, sampler in WEB_UI_SAMPLERS.items()}
    found = {keys.get(name, name.lower().replace(" ", "_")): value for name, value in pairs.items()}
    values = {key: _parse_list(value) if key in LIST_KEYS else _parse(value) for key, value in found.items()}
    return {key: schedulers.get(value, value) if key == "scheduler" else value for key, value in values.items()}


def _parse(text: str) -> Any:
    """Parse a value of `_quote`: a quoted text, a number, True, False or None; any other text is returned unchanged."""
    if text in CONSTANTS:
        return CONSTANTS[text]
    number = re.fullmatch(r"-?(0|[1-9]\d{0,30})(\.\d+)?(e[+-]?\d{1,3})?", text)
    return json.loads(text) if number else _unquote(text)


def _parse_list(text: str) -> Any:
    """Parse a list of `_quote`; any other text is returned unchanged."""
    try:
        found = json.loads(_unquote(text))
    except ValueError:
        return text
    return found if isinstance(found, list) else text


def _quote_for_shell(word: str) -> str:
    """Quote a word for a shell; control characters as bash's escapes."""
    if word.isprintable():
        return shlex.quote(word)
    safe = set(range(0x20, 0x7F)) - set(b"\\'")
    code = "".join(chr(byte) if byte in safe else f"\\x{byte:02x}" for byte in word.encode("utf-8", "surrogateescape"))
    return f"$'{code}'"
