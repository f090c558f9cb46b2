"""The folder of a build: the folders of its stages, and a check that its settings have not changed."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

from ip2p.builds import BUILD_FILE, FINGERPRINT
from ip2p.config import load_config
from ip2p.data_gen.build_file import flatten, is_origin, read_build_file, unflatten
from ip2p.data_gen.captions.read import STORYBOOK
from ip2p.data_gen.config import DatasetConfig, FilterConfig
from ip2p.data_gen.costs import SECONDS_FILE
from ip2p.data_gen.score_config import JUDGE_BOUNDS, ScoresConfig, judge_bounds
from ip2p.errors import ConfigError
from ip2p.models.bundled import BUNDLED_NAMES, bundled_path
from ip2p.ownership import lease, mutex, require_own, sole_writer
from ip2p.records import SCHEMA_VERSION, SCORES
from ip2p.remote.ledger import JUDGE_LEDGER, LEDGER_FILE
from ip2p.shards import atomic_write, fingerprint, hash_file, sweep_temporaries
from ip2p.version import __version__

Stage = Literal["captions", "triples", "candidates", "scores", "filtered", "packed"]
STAGES: tuple[Stage, ...] = get_args(Stage)
CONFIG_SECTIONS: dict[Stage, str] = {
    "captions": "captions", "triples": "triples", "candidates": "pairs", "scores": "scores", "filtered": "filter",
    "packed": "pack",
}  # fmt: skip
"""Section of the config that each stage reads; a stage also depends on the sections of all stages before it."""

IRRELEVANT = {
    "parallel", "max_usd", "max_tokens", "price_in", "price_out", "reply_tokens", "max_reasoning_tokens",
    "skip_unanswered", "cache",
}  # fmt: skip
"""Settings of the triples that do not change any triple, but only how many there are."""
ADDED: dict[str, Any] = {
    "triples.reasoning_effort": None, "triples.extra_body": {}, "triples.turns": 1, "triples.long_form": False,
    "triples.file": "", "triples.seeds": "", "triples.system": "", "pairs.text_every": 1, "pairs.guidance_start": 0.0,
    "pairs.guidance_stop": 1.0, "pairs.enough": 0, "pairs.give_up_below": 0.0, "pairs.early_at": 0.0,
    "pairs.early_margin": 0.1, "pairs.early_audit": 0.1, "pairs.early_decoder": "", "pairs.store_refused": 1.0,
    "pairs.tree": 1, "pairs.threads": 1, "pairs.vae": "", "pairs.loras": [], "pairs.negative_prompt": "",
    "pairs.per_kind": {},
    "scores.dino": "", "filter.layout_max": None, "filter.changed_min": None, "filter.changed_max": None,
    "filter.shift_max": None, "triples.ask_inverse": False, "pack.inverse": False,
    "pack.near_copies": "keep", "pack.captions_license": "", "pack.writer_license": "", "pack.model_license": "",
}  # fmt: skip
"""Settings that earlier versions did not have, with the values that these went by."""
JUDGE = tuple(name for name in ScoresConfig.model_fields if name.startswith("judge"))
"""Settings of the judge, of which nothing before the filter knows; earlier versions had none of them."""
MAY_CHANGE = (
    *(f"triples.{name}" for name in sorted(IRRELEVANT)), *(f"scores.{name}" for name in JUDGE), "filter", "pack"
)  # fmt: skip
"""Settings that may differ when a build resumes, because no drawn pair depends on them."""

OUTPUTS = (
    BUILD_FILE, *STAGES, SECONDS_FILE, "packed.json", "report.html", "review.html", "triples.html",
    "calibration.html", "calibration.yaml",
)  # fmt: skip
"""Names of everything that a build replaces in its folder; a ledger of answers only grows."""
VERSIONS, REVISIONS = "versions", "revisions"
"""Keys of what worked on a build: versions of the libraries, and revisions of the models."""
DRAWN_FOR = "drawn_for"
"""Key of the thresholds that a build was drawn for."""
VERDICTS = "verdicts"
"""Key of the hash of the judge's verdicts that the filter went by."""
LIBRARIES = ("torch", "diffusers", "transformers")
LEASES = "leases"
"""Folder of the files that processes lock: `folder` for all of it, `settings`, and one for each shard in the making."""

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

    def fingerprint(self, stage: Stage, recorded: Mapping[str, Any] | None = None) -> str:
        """Hash everything that the rows of a stage depend on.

        Args:
            stage: the stage.
            recorded: what build.json is to say, thresholds of drawing and verdicts among it; None for what it says.
        """
        read = [CONFIG_SECTIONS[each] for each in STAGES[: STAGES.index(stage) + 1]]
        settings = self.config.model_dump(mode="json", include={"seed", "shard_size", *read})
        for section, values in settings.items():
            if isinstance(values, dict):
                settings[section] = {
                    name: value for name, value in values.items() if not self._is_as_before(section, name, value)
                }
        if self.config.pairs.needs_thresholds and STAGES.index(stage) >= STAGES.index("candidates"):
            read.append("scores")
            settings["scores"] = self.config.scores.model_dump(mode="json")
            settings[DRAWN_FOR] = self.thresholds_of_drawing(recorded).model_dump(mode="json")
        origins = {key: value for key, value in self.origins.items() if key.partition(".")[0] in read}
        if "scores" in settings:  # shards without one of the scores are made again
            settings["scores"]["columns"] = SCORES
        settings = _without_judge(settings)
        if self.config.scores.judge and "filter" in read:
            settings["judge"] = self._judging(recorded)
        return fingerprint(settings | {"origins": origins})

    def thresholds_of_drawing(self, recorded: Mapping[str, Any] | None = None) -> FilterConfig:
        """Return the thresholds that decide what is drawn and stored: those of the filter when drawing began.

        Later ones decide what is kept of it. So they may change at any time, and the pairs are still all drawn alike.

        Args:
            recorded: what build.json is to say; None for what it says.
        """
        drawn_for = (self._recorded() if recorded is None else recorded).get(DRAWN_FOR)
        return FilterConfig.model_validate(drawn_for) if drawn_for else self._thresholds_now()

    def _thresholds_now(self) -> FilterConfig:
        """Return the thresholds that pairs are drawn for if drawing begins now.

        The judge is asked when all is drawn. So it refuses nothing until then, and all that passes is stored for it.
        """
        settings = self.config
        if not settings.scores.judge:
            return settings.filter
        values = settings.filter.model_dump() | {"top_k": max(settings.filter.top_k, settings.pairs.candidates)}
        return FilterConfig.model_validate(_without_judge(values))

    def _judging(self, recorded: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return what the filter has from the judge: its model, its thresholds, and its verdicts."""
        bounds = {"": self.config.filter, **self.config.filter.per_kind}
        return {
            "model": self.config.scores.judge,
            "orders": self.config.scores.judge_orders,
            "bounds": {kind: judge_bounds(each) for kind, each in bounds.items()},
            VERDICTS: (self._recorded() if recorded is None else recorded).get(VERDICTS),
        }

    def record_verdicts(self, digest: str) -> None:
        """Record the hash of all verdicts of the judge, before the filter goes by them."""
        with self.mutex():
            settings = read_build_file(self.out)
            now = settings | {VERDICTS: digest}
            now[FINGERPRINT] = self.fingerprint("packed", now)  # which a data set of these verdicts has
            if now != settings:
                self._write(now)

    def _recorded(self) -> dict[str, Any]:
        """Return what build.json says; nothing if it is not there yet."""
        return read_build_file(self.out) if (self.out / BUILD_FILE).exists() else {}

    @contextmanager
    def claim(self, last: Stage = "packed", *, write: bool = True, shared: bool = False) -> Iterator[int]:
        """Context manager that locks the folder against other runs, and writes down the settings of the build.

        It checks that the settings have not changed, and cleans up after killed runs. A setting may not change once the
        stage that reads it has finished a shard.

        Args:
            last: last stage of this run. Of the sections that only later stages read, no more is written down than what
                was set, so that the rest can be chosen when these stages run.
            write: whether to write down the settings; not for a run that only reads what others made.
            shared: whether other runs may have the folder at the same time, which lease every shard that they make.

        Yields:
            The open file that has the lock, for processes that work for this one.

        Raises:
            BusyError: another run writes to the folder.
            ConfigError: the folder belongs to a build with other settings or other weights.
            DataError: its build.json is unreadable, or it has files of these names that no build made.
        """
        require_own(self.out, OUTPUTS, mark=BUILD_FILE, keys=("seed", "schema_version"))
        self.out.mkdir(parents=True, exist_ok=True)
        with sole_writer(self.out, file=f"{LEASES}/folder", shared=shared) as handle:
            with self.mutex():
                earlier = self._recorded()
                self._record_settings(earlier, last, write=write)
            if not shared:  # other machines may be writing, and nobody here can tell whether their processes live
                for folder in (self.out, *map(self.stage_folder, STAGES)):
                    sweep_temporaries(folder)
                for file in (self.out / LEASES).glob("shard-[0-9][0-9][0-9][0-9][0-9]") if earlier else ():
                    if file.is_file() and not file.stat().st_size:
                        file.unlink()
            yield handle

    def record_settings(self) -> None:
        """Write down the settings of the build, in a folder that was claimed without."""
        with self.mutex():
            self._record_settings(self._recorded(), STAGES[-1], write=True)

    def _record_settings(self, earlier: Mapping[str, Any], last: Stage, *, write: bool) -> None:
        """Check that the settings do not contradict the earlier ones, and write them down if wanted."""
        now = self._check_settings(earlier, last)
        if write and now != earlier:
            self._write(now)

    def lease(self, index: int) -> AbstractContextManager[bool]:
        """Context manager that tries to get a shard of pairs for this process alone; False if another one has it."""
        return lease(self.out / LEASES / f"shard-{index:05d}")

    def mutex(self) -> AbstractContextManager[None]:
        """Context manager that waits until no other process changes what all of them write to."""
        return mutex(self.out / LEASES / "settings")

    def record_models(self, *keys: str) -> None:
        """Record that models were loaded to work for this build: their revisions, and the versions of the libraries.

        Args:
            keys: keys of the config that name the models, such as pairs.model, or LoRA files.
        """
        versions = f"ip2p {__version__}, " + ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
        revisions: dict[str, str] = {}
        for key in keys:
            section, _, field = key.partition(".")
            named = getattr(getattr(self.config, section), field)
            files = {f"{key} {text}": _hash_lora(text) for text in named} if isinstance(named, list) else {}
            revisions |= files or {key: find_revision(named)}
        with self.mutex():
            settings = read_build_file(self.out)
            now = settings | {
                VERSIONS: sorted({*settings.get(VERSIONS, []), versions}),
                REVISIONS: settings.get(REVISIONS, {}) | revisions,
            }
            if now != settings:
                self._write(now)

    def makers(self) -> dict[str, Any]:
        """Return the versions and revisions that were recorded."""
        return {key: value for key, value in read_build_file(self.out).items() if key in (VERSIONS, REVISIONS)}

    def _write(self, settings: Mapping[str, Any]) -> None:
        atomic_write(self.out / BUILD_FILE, (json.dumps(settings, indent=1, ensure_ascii=False) + "\n").encode())

    def _check_settings(self, earlier: Mapping[str, Any], last: Stage) -> dict[str, Any]:
        """Return the settings for build.json, unless they contradict the earlier ones."""
        later = STAGES[STAGES.index(last) + 1 :]
        records = (VERSIONS, REVISIONS, DRAWN_FOR, FINGERPRINT, VERDICTS)
        kept = {key: value for key, value in earlier.items() if _stage_of(key) in later or key in records}
        now = kept | self._settings(later)
        for key in dict.fromkeys((*now, *earlier)):
            before = earlier.get(key, ADDED.get(key))
            if before != now.get(key) and key not in records and self._is_bound(key):
                caches = {"triples.cache": LEDGER_FILE, "scores.judge_cache": JUDGE_LEDGER}
                paid = [f"{name}={self.out}" for name, ledger in caches.items() if (self.out / ledger).exists()]
                again = f" with {' and '.join(paid)}, so that no answer is paid for again" if paid else ""
                raise ConfigError(
                    f"{key} was {before!r} when {self.out} was begun, and is {now.get(key)!r} now",
                    f"Give another folder by out=...{again}, or this one without a config: it has its own settings",
                )
        if self.config.pairs.needs_thresholds and "candidates" not in later:
            begun = any(self.stage_folder("candidates").glob("*"))
            recorded = earlier.get(DRAWN_FOR) if begun else None
            now[DRAWN_FOR] = recorded or self._thresholds_now().model_dump(mode="json")
        if last == "packed":  # a data set that an earlier filter has packed does not have it
            now[FINGERPRINT] = self.fingerprint("packed", now)
        elif FINGERPRINT in earlier:  # there may be such a data set, of models and settings that this run does not know
            config = load_config(DatasetConfig, None, sections=unflatten(now))
            origins = {key: value for key, value in now.items() if is_origin(key)}
            now[FINGERPRINT] = BuildFolder(config, origins).fingerprint("packed", now)
        return now

    @staticmethod
    def _is_as_before(section: str, name: str, value: Any) -> bool:
        """Whether the fingerprint leaves a setting out, as fingerprints of earlier versions do."""
        key = f"{section}.{name}"
        return (section == "triples" and name in IRRELEVANT) or (key in ADDED and value == ADDED[key])

    def _is_bound(self, key: str) -> bool:
        free = f"{key}.".startswith(tuple(f"{name}." for name in MAY_CHANGE))
        return not free and any(self.stage_folder(_stage_of(key)).glob("shard-*.json"))

    def _settings(self, later: Sequence[Stage]) -> dict[str, Any]:
        """Return all settings by dotted names; those of the stages in `later` only where they were set."""
        sections = {CONFIG_SECTIONS[stage] for stage in later}
        settings = self.config.model_dump(mode="json", exclude={"out", *sections})
        settings |= self.config.model_dump(mode="json", include=sections, exclude_unset=True)
        origins = {key: value for key, value in self.origins.items() if _stage_of(key) not in later}
        return flatten(settings) | origins | {"schema_version": SCHEMA_VERSION}


def hash_origins(config: DatasetConfig, *, only_captions: bool = False) -> dict[str, str]:
    """Hash what the settings name: the files of captions and triples, and the weights of all models and LoRA files.

    Args:
        config: config of the build.
        only_captions: leave out the models, for a run that does not need them.

    Raises:
        ModelError: a bundled model has no weights.
    """
    models = {
        "pairs.model": config.pairs.model, "pairs.vae": config.pairs.vae,
        "pairs.early_decoder": config.pairs.early_decoder,
        "scores.clip": config.scores.clip, "scores.dino": config.scores.dino,
    }  # fmt: skip
    found = {f"{key} (its weights)": hash_model(name) for key, name in models.items() if name and not only_captions}
    for text in () if only_captions else config.pairs.loras:
        found[f"pairs.loras {text} (its weights)"] = _hash_lora(text)
    source = Path(config.captions.source)
    if config.captions.source != STORYBOOK and source.is_file():
        found["captions.source (its contents)"] = _hash_file(source)
    elif config.captions.source != STORYBOOK and source.is_dir():
        found["captions.source (its contents)"] = _hash_folder(source, CAPTION_FILES)
    for key in ("file", "seeds", "system"):
        if (file := Path(getattr(config.triples, key))) != Path() and file.is_file():
            found[f"triples.{key} (its contents)"] = _hash_file(file)
    return found


def hash_model(name: str) -> str:
    """Hash the files of a local model: 16 digits of SHA-256. A hub id is returned as it is, without a download.

    Raises:
        ModelError: a bundled model has no weights.
    """
    folder = bundled_path(name) if name in BUNDLED_NAMES else Path(name)
    if not folder.is_dir():
        return name
    return _hash_folder(folder, WEIGHT_FILES)


def find_revision(name: str) -> str:
    """Return the hash of a local model's weights, or the commit of a hub model as it was downloaded."""
    local = hash_model(name)
    if local != name:
        return local
    try:
        cached = try_to_load_from_cache(name, "model_index.json") or try_to_load_from_cache(name, "config.json")
    except HFValidationError:  # not the name of a repository
        cached = None
    return Path(cached).parent.name if isinstance(cached, str) else "unknown"


def _without_judge(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings without those of the judge, as all stages but the filter know them, and earlier versions did."""
    return {
        name: _without_judge(value) if isinstance(value, dict) else value
        for name, value in settings.items()
        if name not in (*JUDGE, *JUDGE_BOUNDS)
    }


def _hash_folder(folder: Path, patterns: Sequence[str]) -> str:
    """Hash the files of a folder that match any of the patterns: 16 digits of SHA-256."""
    files = sorted({path for pattern in patterns for path in folder.rglob(pattern)})
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(folder).as_posix()} {_hash_file(file)}\n".encode())
    return digest.hexdigest()[:16]


def _hash_lora(text: str) -> str:
    """Hash a LoRA file, and the config that peft writes beside it; whether it is there is checked when it is loaded."""
    from ip2p.models.lora import Lora
    from ip2p.models.lora_layouts import PEFT_FILE

    path = Lora.parse(text).path
    return " ".join(_hash_file(each) for each in (path, path.with_name(PEFT_FILE)) if each.is_file())


def _hash_file(path: Path) -> str:
    return hash_file(path)[:16]


def _stage_of(key: str) -> Stage:
    """Return the stage that reads a setting first; the first stage for what belongs to the whole build."""
    section = key.partition(".")[0]
    return next((stage for stage, read in CONFIG_SECTIONS.items() if read == section), STAGES[0])
