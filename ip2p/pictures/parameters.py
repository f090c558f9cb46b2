"""How a picture was made, as text: what viewers of generated pictures show, and the command that makes it again."""

import json
import re
import shlex
import unicodedata
from collections.abc import Mapping
from typing import Any

from ip2p.settings import ALL_SETTINGS, SCHEDULERS
from ip2p.version import __version__

# The text is in the manner of the Stable Diffusion web UI, whose names many programs know.
WEB_UI_NAMES = {
    name: ALL_SETTINGS[name].web_ui_name for name in ("steps", "scheduler", "text_scale", "scale", "image_scale")
} | {"seed": "Seed", "size": "Size", "model": "Model"}
WEB_UI_SAMPLERS = {name: entry.web_ui_name for name, entry in SCHEDULERS.items()}
PROMPT_KEYS = ("instruction", "caption")
NOT_LISTED = (*PROMPT_KEYS, "versions")
CLI_OPTIONS = {name: setting.flags[0] for name, setting in ALL_SETTINGS.items()} | {
    "seed": "--seed", "model": "--model", "frame": "--frame", "negative_prompt": "--negative-prompt",
    "precision": "--precision", "decoder": "--decoder",
}  # fmt: skip
CLI_FLAGS = {"native": "native", "compiled": "compile"}
PAIR = re.compile(r'\s*([^:,"\n]{1,60}):\s*("(?:[^"\\]|\\.)*"|\{[^}]*\}|[^,]*)(?:,|$)')
LEAST_PAIRS = 3
NEGATIVE = "Negative prompt:"
MAX_TEXT = 100_000


def as_text(parameters: Mapping[str, Any], size: tuple[int, int]) -> str:
    """The prompt on lines of its own, then one of `Name: value` pairs: Steps: 20, Sampler: Euler a, ...

    Args:
        parameters: those of a picture.
        size: its width and height in pixels.
    """
    prompt = next((str(parameters[key]) for key in PROMPT_KEYS if key in parameters), "")
    given = {**parameters, "size": f"{size[0]}x{size[1]}"}
    if "scheduler" in given:
        given["scheduler"] = WEB_UI_SAMPLERS.get(str(given["scheduler"]), given["scheduler"])
    known = {name: given[key] for key, name in WEB_UI_NAMES.items() if key in given}
    others = {_title(key): value for key, value in parameters.items() if key not in (*WEB_UI_NAMES, *NOT_LISTED)}
    pairs = {**known, **others, "Version": f"ip2p {__version__}"}
    return "\n".join(filter(None, (prompt, ", ".join(f"{name}: {_quote(value)}" for name, value in pairs.items()))))


def from_text(text: str) -> dict[str, Any]:
    """Parameters of `as_text`, or of another program's text under the names that it uses.

    A text without pairs is something else and gives nothing.
    """
    prompt, _, line = text[:MAX_TEXT].strip().rpartition("\n")
    pairs = _parse_pairs(line)
    if not pairs:
        return {}
    if pairs.get("Version", "").startswith("ip2p "):
        key = "instruction" if "Image CFG scale" in pairs else "caption"
        return ({key: prompt} if prompt else {}) | _to_own_names(pairs)
    prompt, _, negative = prompt.partition(NEGATIVE)
    named = {"Prompt": prompt.strip(), "Negative prompt": negative.strip(), **pairs}
    return {name: value for name, value in named.items() if value}


def command(parameters: Mapping[str, Any], output: str) -> str | None:
    """The shell command that makes a picture again, or None if ip2p did not make it by a command.

    Args:
        parameters: those of the picture; without "input", the name of the edited picture is left to fill in.
        output: name of the file to write.
    """
    if "instruction" in parameters:
        instructions = parameters.get("turns") or [parameters["instruction"]]
        words, named = ["ip2p", "edit"], [str(parameters.get("input", "PICTURE")), *map(str, instructions)]
    elif "caption" in parameters:
        words, named = ["ip2p", "generate"], [str(parameters["caption"])]
    else:
        return None
    options = [
        word for key, option in CLI_OPTIONS.items() if parameters.get(key) is not None
        for word in (option, str(parameters[key]))
    ]  # fmt: skip
    options += ["--mask", str(parameters["mask"])] if "mask" in parameters else []
    options += [f"--{flag}" for key, flag in CLI_FLAGS.items() if parameters.get(key)]
    if "keep_unchanged" in parameters:
        options += ["--keep-unchanged" if parameters["keep_unchanged"] else "--no-keep-unchanged"]
    for name in parameters.get("adapters", ()):
        options += ["--lora" if ":" in str(name) else "--embedding", str(name)]
    options += ["-o", output]
    if any(word.startswith("-") for word in named):
        words += [*options, "--", *named]
    else:
        words += [*named, *options]
    return " ".join(map(_quote_for_shell, words))


def slug(text: str) -> str:
    """Text as a part of a file name, in any script."""
    words = re.sub(r"[\W_]+", "-", unicodedata.normalize("NFC", text).lower()).strip("-")[:60]
    return words.encode()[:120].decode(errors="ignore").rstrip("-") or "picture"


def printable(value: object) -> str:
    """A value on one line, with nothing in it that a terminal would act on."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text if text.isprintable() else json.dumps(text)


def _title(key: str) -> str:
    return key.replace("_", " ").capitalize()


def _quote(value: object) -> str:
    """A value that can stand among others: in JSON's quotes where it has a comma, a colon or more than one line."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if re.search(r'[,:\n"]', text) else text


def _parse_pairs(line: str) -> dict[str, str]:
    """`Name: value` pairs, if a line is nothing else and has three or more."""
    found, place = {}, 0
    while place < len(line):
        pair = PAIR.match(line, place)
        if pair is None:
            return {}
        name, value = pair[1].strip(), pair[2].strip()
        found[name] = _unquote(value)
        place = pair.end()
    return found if len(found) >= LEAST_PAIRS else {}


def _unquote(value: str) -> str:
    try:
        return str(json.loads(value)) if value.startswith('"') else value
    except ValueError:
        return value


def _to_own_names(pairs: Mapping[str, str]) -> dict[str, Any]:
    """Pairs of `as_text` under our own names, numbers as numbers."""
    other = "scale" if "Image CFG scale" in pairs else "text_scale"  # both are a CFG scale to other programs
    keys = {name: key for key, name in WEB_UI_NAMES.items() if key != other}
    schedulers = {sampler: name for name, sampler in WEB_UI_SAMPLERS.items()}
    found = {keys.get(name, name.lower().replace(" ", "_")): value for name, value in pairs.items()}
    return {key: schedulers.get(value, _parse_number(value)) for key, value in found.items()}


def _parse_number(text: str) -> Any:
    """A number or a truth value if it is one and nothing else, as JSON writes them."""
    if text in ("True", "None"):
        return True if text == "True" else None
    return json.loads(text) if re.fullmatch(r"-?(0|[1-9]\d{0,30})(\.\d+)?(e[+-]?\d{1,3})?", text) else text


def _quote_for_shell(word: str) -> str:
    """A word as a shell reads it; in bash's escapes where it has characters that a terminal would act on."""
    if word.isprintable():
        return shlex.quote(word)
    safe = set(range(0x20, 0x7F)) - set(b"\\'")
    code = "".join(chr(byte) if byte in safe else f"\\x{byte:02x}" for byte in word.encode("utf-8", "surrogateescape"))
    return f"$'{code}'"
