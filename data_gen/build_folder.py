"""The folder of a build: the folders of its stages, and a check that its settings have not changed."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from ip2p.data_gen.captions.read import STORYBOOK
from ip2p.data_gen.config import DatasetConfig
from ip2p.errors import ConfigError, DataError
from ip2p.models.bundled import BUNDLED_NAMES, bundled_path
from ip2p.records import SCHEMA_VERSION
from ip2p.shards import atomic_write, fingerprint, hash_file, require_own, sweep_temporaries

Stage = Literal["captions", "triples", "candidates", "scores", "filtered", "packed"]
STAGES: tuple[Stage, ...] = get_args(Stage)
CONFIG_SECTIONS: dict[Stage, str] = {
    "captions": "captions", "triples": "triples", "candidates": "pairs", "scores": "scores", "filtered": "filter",
    "packed": "pack",
}  # fmt: skip
"""Section of the config that each stage reads; a stage also depends on the sections of all stages before it."""

IRRELEVANT = {
    "parallel", "max_usd", "max_tokens", "price_in", "price_out", "reply_tokens", "max_reasoning_tokens",
    "skip_unanswered",
}  # fmt: skip
"""Settings of the triples that do not change any triple, but only how many there are."""
ADDED: dict[str, Any] = {
    "triples.reasoning_effort": None, "triples.extra_body": {}, "triples.turns": 1, "triples.long_form": False,
    "triples.file": "", "triples.seeds": "", "triples.system": "", "pairs.text_every": 1, "pairs.guidance_start": 0.0,
    "pairs.guidance_stop": 1.0,
}  # fmt: skip
"""Settings that earlier versions did not have, with the values that these went by."""
MAY_CHANGE = ("out", *(f"triples.{name}" for name in sorted(IRRELEVANT)), "filter", "pack")
"""Settings that may differ when a build resumes, because no drawn pair depends on them."""

BUILD_FILE = "build.json"
OUTPUTS = (BUILD_FILE, *STAGES, "packed.json", "report.html", "triples.html")
"""Names of everything that a build replaces in its folder; a ledger of answers only grows."""
WEIGHT_FILES = ("*.safetensors", "*.json", "*.txt")
CAPTION_FILES = ("*.parquet", "*.jsonl", "*.csv", "*.tsv", "*.txt", "*.gz", "README.md")


class BuildFolder:
    """The folder of a build.

    Args:
        config: config of the build.
        origins: hashes of the weights and captions that the settings name, see `hash_origins`.
    """

    def __init__(self, config: DatasetConfig, origins: Mapping[str, str]) -> None:
        self.config = config
        self.out = Path(config.out)
        self.origins = dict(origins)

    def stage_folder(self, stage: Stage) -> Path:
        """Return the folder that a stage writes to."""
        return self.out / stage

    def fingerprint(self, stage: Stage) -> str:
        """Hash everything that the rows of a stage depend on."""
        read = [CONFIG_SECTIONS[each] for each in STAGES[: STAGES.index(stage) + 1]]
        settings = self.config.model_dump(mode="json", include={"seed", "shard_size", *read})
        for section, values in settings.items():
            if isinstance(values, dict):
                settings[section] = {
                    name: value for name, value in values.items() if not self._is_as_before(section, name, value)
                }
        origins = {key: value for key, value in self.origins.items() if key.partition(".")[0] in read}
        return fingerprint(settings | {"origins": origins})

    def claim(self) -> None:
        """Write down the settings of the build, check that they have not changed, and clean up after killed runs.

        A setting may not change once the stage that reads it has finished a shard.

        Raises:
            ConfigError: the folder belongs to a build with other settings or other weights.
            DataError: its build.json is unreadable, or it has files of these names that no build made.
        """
        require_own(self.out, OUTPUTS, mark=BUILD_FILE, keys=("seed", "schema_version"))
        now = self._bound_settings()
        earlier = read_build_file(self.out) if (self.out / BUILD_FILE).exists() else {}
        for key in dict.fromkeys((*now, *earlier)):
            before = earlier.get(key, ADDED.get(key))
            if before != now.get(key) and self._is_bound(key):
                raise ConfigError(
                    f"{key} was {before!r} when {self.out} was begun, and is {now.get(key)!r} now",
                    f"Give another folder by out=..., or remove {self.out} to begin anew",
                )
        if now != earlier:
            atomic_write(self.out / BUILD_FILE, (json.dumps(now, indent=1, ensure_ascii=False) + "\n").encode())
        for folder in (self.out, *map(self.stage_folder, STAGES)):
            sweep_temporaries(folder)

    @staticmethod
    def _is_as_before(section: str, name: str, value: Any) -> bool:
        """Whether the fingerprint leaves a setting out, as fingerprints of earlier versions do."""
        key = f"{section}.{name}"
        return (section == "triples" and name in IRRELEVANT) or (key in ADDED and value == ADDED[key])

    def _is_bound(self, key: str) -> bool:
        section = key.partition(".")[0]
        stage = next((each for each, read in CONFIG_SECTIONS.items() if read == section), STAGES[0])
        return any(self.stage_folder(stage).glob("shard-*.json"))

    def _bound_settings(self) -> dict[str, Any]:
        flat = _flatten(self.config.model_dump(mode="json"))
        fixed = {
            key: value for key, value in flat.items() if not f"{key}.".startswith(tuple(f"{k}." for k in MAY_CHANGE))
        }
        return fixed | self.origins | {"schema_version": SCHEMA_VERSION}


def hash_origins(config: DatasetConfig) -> dict[str, str]:
    """Hash what the settings name: weights of the base model and of CLIP, and the file of captions.

    Raises:
        ModelError: a bundled model has no weights.
    """
    found = {
        "pairs.model (its weights)": hash_model(config.pairs.model),
        "scores.clip (its weights)": hash_model(config.scores.clip),
    }
    source = Path(config.captions.source)
    if config.captions.source != STORYBOOK and source.is_file():
        found["captions.source (its contents)"] = _hash_file(source)
    elif config.captions.source != STORYBOOK and source.is_dir():
        found["captions.source (its contents)"] = _hash_folder(source, CAPTION_FILES)
    for key in ("file", "seeds", "system"):
        if (file := Path(getattr(config.triples, key))) != Path() and file.is_file():
            found[f"triples.{key} (its contents)"] = _hash_file(file)
    return found


def read_build_file(out: Path) -> dict[str, Any]:
    """Read the settings that a build was started with.

    Raises:
        DataError: there is no build in the folder.
    """
    try:
        settings = json.loads((out / BUILD_FILE).read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"there is no data set build in {out}", "Begin one with `ip2p dataset build`") from error
    return dict(settings)


def read_origins(out: Path) -> dict[str, str]:
    """Read the origins of a build, so that it can be filtered again without its models."""
    return {key: value for key, value in read_build_file(out).items() if key.endswith(")")}


def hash_model(name: str) -> str:
    """Hash the files of a local model: 16 digits of SHA-256. A hub id is returned as it is, without a download.

    Raises:
        ModelError: a bundled model has no weights.
    """
    folder = bundled_path(name) if name in BUNDLED_NAMES else Path(name)
    if not folder.is_dir():
        return name
    return _hash_folder(folder, WEIGHT_FILES)


def _hash_folder(folder: Path, patterns: Sequence[str]) -> str:
    """Hash the files of a folder that match any of the patterns: 16 digits of SHA-256."""
    files = sorted({path for pattern in patterns for path in folder.rglob(pattern)})
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(folder).as_posix()} {_hash_file(file)}\n".encode())
    return digest.hexdigest()[:16]


def _hash_file(path: Path) -> str:
    return hash_file(path)[:16]


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings into a dictionary with dotted names."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
