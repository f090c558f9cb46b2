"""Results of a build after the filter: counts, report.html, and the packed data set."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from ip2p.data_folders import PREFERENCES
from ip2p.data_gen.build_folder import BuildFolder
from ip2p.data_gen.config import PairsConfig
from ip2p.data_gen.costs import read_costs
from ip2p.data_gen.pairs.keep import keep_edited
from ip2p.data_gen.pairs.pack import FEATURES, pack
from ip2p.data_gen.pairs.packing import PACKING_FILE, Packing, PackingCounts, read_packing
from ip2p.data_gen.pairs.preferences import FEATURES as PREFERENCE_FEATURES
from ip2p.data_gen.pairs.preferences import pair_siblings, preference_row
from ip2p.data_gen.pairs.split import SPLITS, group_captions, split_of
from ip2p.data_gen.report.card import dataset_card
from ip2p.data_gen.report.counts import Counts
from ip2p.data_gen.report.croissant import RecordSet, croissant
from ip2p.data_gen.report.licenses import find_licenses
from ip2p.data_gen.report.pairs_page import PairChoice, ShownPair, render_report
from ip2p.data_gen.report.review_page import choose_for_review, render_review
from ip2p.data_gen.rows import FilteredShard, read_filtered, read_pictures
from ip2p.errors import DataError
from ip2p.manifest import read_manifest, verify_dataset
from ip2p.plurals import counted
from ip2p.progress import StageProgress
from ip2p.records import Candidate, Caption, Reason
from ip2p.shards import Contents, atomic_write, read_shards
from ip2p.version import __version__

TOLD = (
    "vae", "loras", "negative_prompt", "guidance_start", "guidance_stop", "text_every", "size", "precision", "tree",
    "early_at", "early_decoder",
)  # fmt: skip
"""Settings of the pairs that are told with each row where they are given."""


class Results:
    """Makes the results from filtered shards, without drawing, scoring or deciding anything.

    Args:
        build_folder: folder of the build.
        shards: number of shards of each stage.
        say: function that prints a line.
    """

    def __init__(self, build_folder: BuildFolder, shards: int, say: Callable[[str], None]) -> None:
        self.build_folder, self.config, self.shards, self.say = build_folder, build_folder.config, shards, say

    @cached_property
    def counts(self) -> Counts:
        """Counts over all shards."""
        counts = Counts(self.config.pairs.early_audit)
        for shard in self._filtered():
            counts.add(shard)
        return counts

    def write_report(self) -> Path:
        """Write report.html; returns its path."""
        shown = self._show(PairChoice().take)
        page = self.build_folder.out / "report.html"
        costs = read_costs(self.build_folder.out)
        atomic_write(page, render_report(self.config, self.counts, shown, costs, self._packed_counts()).encode())
        return page

    def write_review(self, count: int) -> Path:
        """Write review.html with `count` pairs, or all if there are fewer; returns its path."""
        ids = choose_for_review(self._filtered(), count)
        shown = self._show(lambda shard: [each for each in shard.candidates if each.id in ids])
        shown.sort(key=lambda each: ids.index(each.candidate.id))
        page = self.build_folder.out / "review.html"
        atomic_write(page, render_review(shown, self.build_folder.fingerprint("filtered")).encode())
        return page

    def _show(self, choose: Callable[[FilteredShard], Sequence[Candidate]]) -> list[ShownPair]:
        """Read the pictures of the candidates that a function chooses from each shard."""
        shown = []
        for index, shard in enumerate(self._filtered()):
            chosen = {each.id: each for each in choose(shard)}
            for row in read_pictures(self.build_folder, index, chosen):
                each = chosen[row["id"]]
                pictures = row["original_image"]["bytes"], row["edited_image"]["bytes"]
                shown.append(ShownPair(each, shard.by_id[each.triple_id], *pictures))
        return shown

    def pack(self) -> None:
        """Write the packed data set, unless it exists with these settings, and tell what lacks its pictures.

        Raises:
            DataError: no pair was kept.
        """
        if lost := self.counts.candidates[Reason.NOT_STORED]:
            self.say(
                f"left out: {counted(lost, 'pair')} within these thresholds and refused by those of drawing, so that "
                "the pictures were not stored; a build with pairs.store_refused=1 stores all"
            )
        fingerprint, folder = self.build_folder.fingerprint("packed"), self.build_folder.stage_folder("packed")
        if _is_packed(folder, fingerprint):
            return
        if not self.counts.pairs and (unjudged := self.counts.candidates[Reason.NOT_JUDGED]):
            raise DataError(
                f"no pair was kept: of {counted(unjudged, 'pair')} within the other thresholds, none has a verdict",
                "Run the same command again with more of scores.judge_max_usd or judge_max_tokens, or without the "
                "thresholds filter.judge_*; a pair that the judge cannot judge is not kept",
            )
        keep_edited(folder, self.build_folder.out, self.say)
        with StageProgress("packed", "pairs", total=self.counts.pairs, done=0, say=self.say) as progress:
            rows, size = self._packed_rows(progress), self.config.pack.shard_rows
            more = {PREFERENCES: (PREFERENCE_FEATURES, self._preference_rows())} if self.config.pack.preferences else {}
            pack(rows, folder, shard_rows=size, documents=self._documents, config=fingerprint, more=more)

        for what, told in self._packing.counts.facts().items():
            self.say(f"{what}: {told}")

    def _packed_counts(self) -> PackingCounts:
        """Return what packing made of the pairs; empty counts if the data set there is of an earlier filter."""
        folder = self.build_folder.stage_folder("packed")
        with suppress(DataError):  # a damaged one is told by whoever reads it
            manifest = read_manifest(folder)
            if manifest and manifest.config == self.build_folder.fingerprint("packed"):
                return read_packing(folder)
        return PackingCounts()

    @cached_property
    def _packing(self) -> Packing:
        """Maker of packed rows, which counts them."""
        return Packing(self.config, find_provenance(self.build_folder))

    def _filtered(self) -> Iterator[FilteredShard]:
        return (read_filtered(self.build_folder, index) for index in range(self.shards))

    @cached_property
    def _groups(self) -> dict[str, str]:
        """Groups of near-duplicate captions, by id of the caption."""
        rows = read_shards(self.build_folder.stage_folder("captions"))
        return group_captions(Caption.model_validate(row) for row in rows)

    def _split(self, shard: FilteredShard, candidate: Candidate) -> str:
        return split_of(self._groups[shard.by_id[candidate.triple_id].caption_id], self.config.pack.split)

    def _documents(self, digest: str, files: Mapping[str, Contents]) -> dict[str, str]:
        """Write the card and the Croissant metadata, and say which licences are unknown."""
        licenses = find_licenses(self.config)
        for name in licenses.unknown():
            self.say(
                f"the licence of the {name} is unknown: name it by pack.{name}_license=..., before you share the pairs"
            )
        splits = [name for name in SPLITS if any(path.startswith(f"data/{name}-") for path in files)]
        made_by = f"{self.config.pairs.model} and the instructions of {', '.join(self.counts.writers)}"
        edits = counted(self._packing.counts.pairs(self.counts.pairs), "edit")
        description = f"{edits}: picture, instruction, edited picture; drawn by {made_by}."
        metadata = croissant(
            f"ip2p-edits-{digest}", description=description, license=licenses.whole, files=files,
            record_sets=[
                *(RecordSet(name, f"data/{name}-*.parquet", FEATURES) for name in SPLITS),
                *(RecordSet(f"{PREFERENCES}-{name}", f"{PREFERENCES}/{name}-*.parquet", PREFERENCE_FEATURES)
                  for name in SPLITS),
            ],
        )  # fmt: skip
        card = dataset_card(
            self.config, self.counts, splits, digest, licenses=licenses, makers=self.build_folder.makers(),
            fingerprint=self.build_folder.fingerprint("packed"),
            preferences=[name for name in SPLITS if any(path.startswith(f"{PREFERENCES}/{name}-") for path in files)],
            packing=self._packing.counts,
        )  # fmt: skip
        return {"README.md": card, "croissant.json": metadata, PACKING_FILE: self._packing.counts.to_json()}

    def _packed_rows(self, progress: StageProgress) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield split and packed row of every kept pair, and of those of their inverse pairs, in order."""
        for index, shard in enumerate(self._filtered()):
            kept = shard.kept
            for pictures in read_pictures(self.build_folder, index, kept):
                each = kept[pictures["id"]]
                for row in self._packing.rows(each, shard.by_id[each.triple_id], pictures):
                    yield self._split(shard, each), row
                progress.advance(1)

    def _preference_rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield split and row of every preference pair whose pictures are stored, in order."""
        provenance = find_provenance(self.build_folder)
        for index, shard in enumerate(self._filtered()):
            siblings = {each.id: each for pair in pair_siblings(shard.candidates) for each in pair}
            pictures = {row["id"]: row for row in read_pictures(self.build_folder, index, siblings)}
            for pair in pair_siblings(each for each in shard.candidates if each.id in pictures):
                triple = shard.by_id[pair.chosen.triple_id]
                yield self._split(shard, pair.chosen), preference_row(pair, triple, pictures, provenance)


def find_provenance(build_folder: BuildFolder) -> dict[str, Any]:
    """Return which captions, models, versions and settings made the pairs of a build."""
    config = build_folder.config
    made_by = {
        "ip2p": __version__,
        "captions": config.captions.source,
        "model": config.pairs.model,
        "scheduler": config.pairs.scheduler,
        "steps": config.pairs.steps,
        "share": config.pairs.share,
        "clip": config.scores.clip,
        "fingerprint": build_folder.fingerprint("packed"),
    }
    made_by |= {name: getattr(config.pairs, name) for name in TOLD if getattr(config.pairs, name) != _default(name)}
    made_by |= {name: getattr(config.scores, name) for name in ("dino", "judge") if getattr(config.scores, name)}
    return made_by | build_folder.origins | build_folder.makers()


def _default(name: str) -> Any:
    """Return what a setting of the pairs is if it is not given."""
    return PairsConfig.model_fields[name].default


def _is_packed(folder: Path, fingerprint: str) -> bool:
    """Return whether a packed data set is there whole, and was made with these settings."""
    try:
        manifest = verify_dataset(folder)
    except DataError:
        return False
    return manifest is not None and manifest.config == fingerprint
