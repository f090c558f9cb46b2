"""The sets of pairs of an ablation: the same candidates by other thresholds, or fewer of the kept pairs.

Nothing is drawn. A set's build is a folder of links to the captions, triples, candidates and scores of the build, which
is filtered and packed there by `ip2p dataset filter`, while the build itself stays as it is.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from ip2p.builds import BUILD_FILE, FINGERPRINT
from ip2p.data_gen.build_file import read_build_file
from ip2p.data_gen.config import FilterConfig, Thresholds
from ip2p.errors import DataError
from ip2p.records import in_share
from ip2p.shards import atomic_dir, atomic_write, fingerprint, hash_file

LINKED = ("captions", "triples", "candidates", "scores")
"""Stages of a build that do not depend on its thresholds."""
REFILTERED = ("filter", "pack")
"""Sections of the settings of a build that filtering it again may change."""
EVERY = 1_000_000
"""Pairs of a triple that are kept at most where all are."""

OPEN: dict[str, Any] = {
    "source": -2.0, "edited": -2.0, "image": -2.0, "image_max": 2.0, "direction": -2.0, "per_kind": {},
}  # fmt: skip
"""Thresholds that refuse nothing; those that are not named are null."""
PAPERS: dict[str, Any] = {name: FilterConfig.model_fields[name].default for name in OPEN if name != "per_kind"}
"""The thresholds of the paper, which were chosen for OpenAI's CLIP."""


class PairSet(NamedTuple):
    """A set of pairs to train on.

    Attributes:
        folder: folder of its parquet files.
        ids: ids of its training pairs.
        digest: hash of them and of the pairs held out.
    """

    folder: Path
    ids: tuple[str, ...]
    digest: str


def filter_settings(bounds: Mapping[str, Any], *, top_k: int | None = None) -> list[str]:
    """Return thresholds as settings of `ip2p dataset filter`; what is not among them is set to bound nothing.

    Args:
        bounds: values of the section `filter`.
        top_k: pairs of a triple that are kept at most; None for as many as the build keeps.
    """
    null = dict.fromkeys(name for name, field in Thresholds.model_fields.items() if field.default is None)
    wanted = {**OPEN, **null, **bounds} | ({} if top_k is None else {"top_k": top_k})
    return [f"filter.{name}={json.dumps(value)}" for name, value in wanted.items()]


def read_thresholds(file: Path) -> dict[str, Any]:
    """Read the section `filter` of a calibration.yaml.

    Raises:
        DataError: it is none.
    """
    try:
        found = yaml.safe_load(file.read_text())["filter"]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise DataError(f"{file} has no thresholds", "Give a file that `ip2p dataset calibrate` wrote") from error
    return dict(found)


def link_build(build: Path, folder: Path) -> None:
    """Make a folder of links to what the thresholds of a build do not change, with its settings.

    Args:
        build: folder of a build with all scores.
        folder: folder to make, which may be there from an earlier run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for stage in LINKED:
        if not (folder / stage).is_symlink():
            (folder / stage).symlink_to((build / stage).resolve())
    if not (folder / BUILD_FILE).exists():
        atomic_write(folder / BUILD_FILE, (build / BUILD_FILE).read_bytes())


def hash_build(build: Path) -> str:
    """Hash what is drawn and scored in a build: the manifests of its shards, and its settings but for `refiltered`.

    Raises:
        DataError: there is no build in the folder.
    """
    settings = read_build_file(build)
    files = sorted((build / "scores").glob("*.json"))
    later = {*refiltered(settings), FINGERPRINT}
    drawn = {name: value for name, value in settings.items() if name not in later}
    return fingerprint({"settings": drawn, "scores": [hash_file(file) for file in files]})


def refiltered(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return those settings of a build, by dotted names, that filtering it again may change."""
    return {name: value for name, value in settings.items() if name.partition(".")[0] in REFILTERED}


def packed_ids(packed: Path, split: str = "train") -> list[str]:
    """Read the ids of the pairs of a split of a packed data set, in order."""
    return [each for file in _files(packed, split) for each in pq.read_table(file, columns=["id"])["id"].to_pylist()]


def choose_pairs(ids: Sequence[str], own: Sequence[str], *, share: float, stored: float, most: int | None) -> list[str]:
    """Choose the pairs of a set; smaller sets lie within larger ones.

    Of what drawing refused, the pictures of a random share are stored, and of what it kept, those of all. So a set with
    pairs of both kinds is brought to that same share of either, as if nothing had been refused.

    Args:
        ids: pairs within the thresholds of the set.
        own: pairs within those of the build.
        share: share of the pairs that is wanted, in (0, 1].
        stored: share of the refused candidates whose pictures are stored.
        most: number of pairs at most; None for any.
    """
    beyond = not set(ids) <= set(own)
    fair = [each for each in ids if in_share(each, stored, "stored")] if beyond else list(ids)
    count = max(1, round(share * len(fair)))
    chosen = sorted(fair, key=lambda each: hashlib.sha256(f"ablation {each}".encode()).digest())
    kept = set(chosen[: count if most is None else min(count, most)])
    return [each for each in ids if each in kept]


def write_set(packed: Path, ids: Sequence[str], held_out: Path, folder: Path) -> PairSet:
    """Write a set with pairs of a packed data set, and the held-out pairs that all sets have in common.

    Args:
        packed: packed data set that has the pairs.
        ids: ids of the pairs.
        held_out: packed data set whose split test is held out.
        folder: folder to write, replaced if it exists.

    Raises:
        DataError: there are no pairs.
    """
    if not ids:
        raise DataError(f"no pair is left for {folder.name}", "Build more pairs, or leave it out by --only")
    wanted, tests = pa.array(sorted(ids)), _files(held_out, "test")
    digest = fingerprint({"ids": list(ids), "test": [hash_file(file) for file in tests]})
    with atomic_dir(folder) as temporary:
        (temporary / "data").mkdir()
        writer = None
        for file in _files(packed, "train"):
            table = pq.read_table(file)
            writer = writer or pq.ParquetWriter(temporary / "data" / "train-00000-of-00001.parquet", table.schema)
            writer.write_table(table.filter(pc.is_in(table["id"], value_set=wanted)))
        assert writer is not None, "ids come from files"
        writer.close()
        for file in tests:
            shutil.copyfile(file, temporary / "data" / file.name)
    atomic_write(_names_file(folder), (json.dumps({"ids": list(ids), "digest": digest}) + "\n").encode())
    return PairSet(folder, tuple(ids), digest)


def read_set(folder: Path) -> PairSet:
    """Read which pairs a set has."""
    found = json.loads(_names_file(folder).read_text())
    return PairSet(folder, tuple(found["ids"]), found["digest"])


def _names_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.json")  # inside, it would be read as pairs


def _files(packed: Path, split: str) -> list[Path]:
    return sorted((packed / "data").glob(f"{split}-*.parquet"))
