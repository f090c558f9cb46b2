"""Licences of what a data set is made from: captions, the writer of instructions, the base model."""

from pathlib import Path
from typing import NamedTuple

import yaml
from huggingface_hub import RepoCard, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

from ip2p.data_gen.captions.read import STORYBOOK
from ip2p.data_gen.config import DatasetConfig
from ip2p.models.bundled import BUNDLED_NAMES

UNKNOWN = "unknown"
OURS = "apache-2.0"
"""Licence of ip2p, and of all that comes with it: captions and models of the storybook world, and rules."""


class Licenses(NamedTuple):
    """The licence of each part, "unknown" where none is named."""

    captions: str
    writer: str
    model: str

    @property
    def whole(self) -> str:
        """The licence of the data set for the hub: that of all parts, "other" if they differ, or "unknown"."""
        if UNKNOWN in self:
            return UNKNOWN
        return self.captions if len(set(self)) == 1 else "other"

    def unknown(self) -> list[str]:
        """Return the names of the parts whose licence is not known."""
        return [name for name, license in self._asdict().items() if license == UNKNOWN]


def find_licenses(config: DatasetConfig) -> Licenses:
    """Find the licence of each part: as the config names it, as ip2p knows it, or as a card on this machine says."""
    given, captions, triples = config.pack, config.captions, config.triples
    return Licenses(
        given.captions_license or (OURS if captions.source == STORYBOOK else _on_card(captions.source, "dataset")),
        given.writer_license or (OURS if triples.writer == "rules" else _on_card(triples.model, "model")),
        given.model_license or (OURS if config.pairs.model in BUNDLED_NAMES else _on_card(config.pairs.model, "model")),
    )


def _on_card(name: str, kind: str) -> str:
    """Read the licence on the card of a folder, or of a hub repository that was downloaded before."""
    path = Path(name) / "README.md"
    if not path.is_file():
        try:
            cached = try_to_load_from_cache(name, "README.md", repo_type=kind)
        except HFValidationError:  # not the name of a repository
            return UNKNOWN
        if not isinstance(cached, str):
            return UNKNOWN
        path = Path(cached)
    try:
        license = RepoCard.load(path, ignore_metadata_errors=True).data.to_dict().get("license")
    except (OSError, ValueError, yaml.YAMLError):
        return UNKNOWN
    return license if isinstance(license, str) and license else UNKNOWN
