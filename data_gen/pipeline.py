"""Build a data set of edits: `python data_gen/pipeline.py [--config FILE] [key=value ...]`, or `ip2p dataset build`.

    captions -> triples -> candidates -> scores -> filtered -> packed data set, and report.html

The default is configs/storybook_dataset.yaml, or the settings of the folder that `out=` names. The same command resumes
a build that was stopped, and the result has the same bytes. With other thresholds, pairs are filtered and packed again
without drawing.
"""

import argparse
import functools
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ip2p.data_gen.build_file import DEFAULT_CONFIG, load_settings, read_origins
from ip2p.data_gen.config import DatasetConfig
from ip2p.data_gen.scale.parallelism import ENGINES, Parallelism, make_pairs, parse_parallelism
from ip2p.data_gen.scale.partition import Partition, find_partition
from ip2p.data_gen.summary import BuildSummary, Session
from ip2p.errors import BusyError, DataError, run_program
from ip2p.plurals import counted

if TYPE_CHECKING:
    from ip2p.data_gen.build_folder import BuildFolder
    from ip2p.data_gen.calibration.calibrate import Calibration
    from ip2p.data_gen.calibration.labels import Label
    from ip2p.data_gen.report.results import Results

INTERRUPTED_EXIT_CODE = 130
FILTER_HINT = "Run `ip2p dataset filter out={}` with these settings first"
ONE_PROCESS = Parallelism()

Say = Callable[[str], None]
say_at_once: Say = functools.partial(print, flush=True)


def build(config: DatasetConfig, *, parallelism: Parallelism = ONE_PROCESS, say: Say = say_at_once) -> BuildSummary:
    """Run the unfinished shards of all stages, and pack the kept pairs.

    Args:
        config: config of the build.
        parallelism: processes that draw and score the pairs.
        say: function that prints a line.

    Raises:
        ConfigError: the folder belongs to a build with other settings.
        DataError: captions cannot be read, or no pair is kept (the report is written anyway).
        ModelError: a model is missing or of another kind.
        WriterError: the language model cannot be reached.
    """
    began = time.monotonic()
    from ip2p.data_gen.build_folder import BuildFolder, hash_origins
    from ip2p.data_gen.captions.read import read_build_captions
    from ip2p.data_gen.preflight import check_before_paying
    from ip2p.data_gen.stages import Stages  # torch and diffusers take seconds to import; report a wrong key first

    build_folder = BuildFolder(config, hash_origins(config))
    captions = read_build_captions(config)
    with build_folder.claim() as lock:  # write nothing before all inputs are found
        stages = Stages(build_folder, say)
        stages.write_captions(captions)
        check_before_paying(stages, parallelism)
        stages.write_triples()
        seconds = make_pairs(stages, range(stages.shards), parallelism, lock)
        stages.filter_pairs()
        results = _finish(stages.results())
    session = Session(time.monotonic() - began, stages.drawn, stages.unet_rows, seconds)
    summary = BuildSummary(build_folder.out, results.counts, session)
    say(str(summary))
    return summary


def build_partition(
    config: DatasetConfig, partition: Partition, *, parallelism: Parallelism = ONE_PROCESS, say: Say = say_at_once
) -> BuildSummary | None:
    """Make the pairs of a share of the shards, beside other runs in the same folder.

    The run that finds all pairs made filters and packs them.

    Args:
        config: config of the build, whose triples are finished.
        partition: share of this run.
        parallelism: processes that draw and score the pairs.
        say: function that prints a line.

    Returns:
        The outcome of the build; None if pairs of other shares are missing yet, which is said.

    Raises:
        BusyError: a run has the folder alone: it writes triples, or filters.
        ConfigError: the folder belongs to a build with other settings.
        DataError: the triples are not finished, or no pair is kept.
        ModelError: a model is missing or of another kind.
        WriterError: the judge of the pairs cannot be asked.
    """
    began = time.monotonic()
    from ip2p.data_gen.build_folder import BuildFolder, hash_origins
    from ip2p.data_gen.preflight import check_judge
    from ip2p.data_gen.stages import Stages

    build_folder = BuildFolder(config, hash_origins(config))
    out = build_folder.out
    with build_folder.claim(shared=True) as lock:
        stages = Stages(build_folder, say)
        for stage in ("captions", "triples"):
            stages.require(stage, f"Run `ip2p dataset triples -o {out}` with these settings first")
        check_judge(stages)  # any of the runs may be the last, which asks it
        say(f"{partition}: {len(partition.shards(stages.shards))} of {counted(stages.shards, 'shard')}")
        seconds = make_pairs(stages, partition.shards(stages.shards), parallelism, lock)
        left = stages.unfinished_pairs()
    session = Session(time.monotonic() - began, stages.drawn, stages.unet_rows, seconds)
    if not left:
        with suppress(BusyError), build_folder.claim():  # the last run that lets go of the folder gets it
            stages.filter_pairs()
            summary = BuildSummary(out, _finish(stages.results()).counts, session)
            say(str(summary))
            return summary
    missing = (
        f"pairs of {len(left)} of {counted(stages.shards, 'shard')} are missing yet" if left else "all pairs are made"
    )
    then = f"the last of these runs, or `ip2p dataset build out={out}`, filters and packs"
    say(f"{session}\n{partition}: {missing}, and {then}")
    return None


def estimate(
    config: DatasetConfig,
    parallelism: Parallelism = ONE_PROCESS,
    partition: Partition | None = None,
    *,
    say: Say = say_at_once,
) -> None:
    """Say what a build or a share of it will take; nothing is written. See `ip2p.data_gen.estimate`."""
    from ip2p.data_gen.estimate import estimate
    from ip2p.data_gen.scale.parallelism import count_slots

    workers = parallelism.workers or count_slots(config.pairs.threads)
    say(str(estimate(config, workers=workers, partition=partition)))


def write_triples(config: DatasetConfig, *, say: Say = say_at_once) -> Path:
    """Run the text stages, from captions to triples, and write triples.html; `build` resumes from there.

    Returns:
        The path of triples.html.

    Raises:
        ConfigError: the folder belongs to a build with other settings, or nothing could pass its filter.
        DataError: captions cannot be read.
        WriterError: the language model cannot be reached or refuses, or the budget is spent. The page is written
            anyway, with the triples so far.
    """
    began = time.monotonic()
    from ip2p.data_gen.build_folder import BuildFolder, hash_origins
    from ip2p.data_gen.captions.read import read_build_captions
    from ip2p.data_gen.preflight import check_before_writing
    from ip2p.data_gen.stages import Stages

    build_folder = BuildFolder(config, hash_origins(config, only_captions=True))
    captions = read_build_captions(config)
    with build_folder.claim("triples"):
        stages = Stages(build_folder, say)
        stages.write_captions(captions)
        check_before_writing(stages)
        try:
            stages.write_triples()
        finally:
            counts, page = stages.report_triples()
            seconds, written = time.monotonic() - began, stages.triples
            speed = f"{seconds:.1f} s in this session: {60 * written / seconds:.0f} triples a minute; "
            if counts.total:
                say(f"{counts}\n{speed if written else 'no triple was written in this session; '}report {page}")
    _warn_if_stale(build_folder, say)
    return page


def show_triples(config: DatasetConfig, texts: Sequence[str], *, say: Say = say_at_once) -> None:
    """Run the text stages on some captions, and print each step; nothing is written.

    Args:
        config: config of the writer and the checks; its captions are not read.
        texts: captions.
        say: function that prints a line.

    Raises:
        WriterError: the language model cannot be reached, or refuses.
    """
    from ip2p.data_gen.triples.preview import preview
    from ip2p.data_gen.writers import open_writer
    from ip2p.records import Caption, content_id

    captions = [Caption(id=content_id(text), text=text, source="command line") for text in texts]
    if not captions:
        raise DataError("there is no caption to show edits of", 'Give one, such as "a red barn by a lake"')
    with tempfile.TemporaryDirectory() as folder:
        writer = open_writer(config.triples, Path(folder), seed=config.seed, say=say)
        with closing(writer):
            for line in preview(captions, writer, config):
                say(line)


def refilter(config: DatasetConfig, *, say: Say = say_at_once) -> BuildSummary:
    """Filter, report and pack again with the existing scores; needs neither models nor a GPU.

    Raises:
        ConfigError: more than the filter and the packing has changed.
        DataError: there is no build with all scores, or no pair is kept.
    """
    began = time.monotonic()
    from ip2p.data_gen.build_folder import BuildFolder
    from ip2p.data_gen.stages import Stages

    build_folder = BuildFolder(config, read_origins(Path(config.out)))
    with build_folder.claim(write=False):
        stages = Stages(build_folder, say)
        stages.require("scores", f"Run `ip2p dataset build out={config.out}` to its end first")
        build_folder.record_settings()  # not those of a filter that cannot run
        stages.filter_pairs()
        counts = _finish(stages.results()).counts
    summary = BuildSummary(build_folder.out, counts, Session(time.monotonic() - began))
    say(str(summary))
    return summary


def report(config: DatasetConfig, *, say: Say = say_at_once) -> Path:
    """Write report.html again.

    Raises:
        ConfigError: more than the filter and the packing has changed.
        DataError: there is no build that was filtered with these settings.
    """
    return _write_page(config, lambda results: results.write_report(), say)


def review(config: DatasetConfig, count: int, *, say: Say = say_at_once) -> Path:
    """Write review.html, on which a person marks `count` pairs as good or bad; returns its path.

    Raises:
        ConfigError: more than the filter and the packing has changed.
        DataError: there is no build that was filtered with these settings.
    """
    return _write_page(config, lambda results: results.write_review(count), say)


def calibrate(
    config: DatasetConfig, labels: "Path | Label", precision: float, *, count: int = 2000, say: Say = say_at_once
) -> "Calibration":
    """Find thresholds for a wanted precision, and write calibration.yaml and calibration.html.

    Args:
        config: config of a filtered build.
        labels: CSV of the review page, or a function that labels pairs by their pictures.
        precision: wanted share of fine pairs among the kept ones, above 0 and below 1.
        count: number of candidates that a function labels; fewer if there are not as many.
        say: function that prints a line.

    Raises:
        ConfigError: more than the filter and the packing has changed, or the precision is no share.
        DataError: there is no build that was filtered with these settings; labels are unreadable or too few.
    """
    from ip2p.data_gen.build_folder import BuildFolder
    from ip2p.data_gen.calibration.calibrate import calibrate, require_share
    from ip2p.data_gen.calibration.labels import label_stored, read_marks, to_examples
    from ip2p.data_gen.calibration.page import render_calibration
    from ip2p.data_gen.rows import read_filtered
    from ip2p.data_gen.stages import Stages
    from ip2p.shards import atomic_write

    require_share(precision)
    build_folder = BuildFolder(config, read_origins(Path(config.out)))
    marks = read_marks(labels) if isinstance(labels, Path) else None
    with build_folder.claim(write=False):
        stages = Stages(build_folder, say)
        stages.require("filtered", FILTER_HINT.format(config.out))
        shards = [read_filtered(build_folder, index) for index in range(stages.shards)]
        origin = str(labels) if isinstance(labels, Path) else "the judge"
        found = (marks or {}) if isinstance(labels, Path) else label_stored(build_folder, shards, labels, count)
        examples = to_examples(shards, found, origin)
        calibration = calibrate(examples, precision, origin)
        page = build_folder.out / "calibration.html"
        atomic_write(page, render_calibration(calibration, examples).encode())
        atomic_write(page.with_suffix(".yaml"), calibration.to_yaml().encode())
    say(f"{calibration}\nthresholds {page.with_suffix('.yaml')}, curves {page}")
    return calibration


def _write_page(config: DatasetConfig, write: Callable[["Results"], Path], say: Say) -> Path:
    """Write a page about a filtered build."""
    from ip2p.data_gen.build_folder import BuildFolder
    from ip2p.data_gen.stages import Stages

    build_folder = BuildFolder(config, read_origins(Path(config.out)))
    with build_folder.claim(write=False):
        stages = Stages(build_folder, say)
        stages.require("filtered", FILTER_HINT.format(config.out))
        page = write(stages.results())
    say(f"{page.stem} {page}")
    _warn_if_stale(build_folder, say)
    return page


def _warn_if_stale(build_folder: "BuildFolder", say: Say) -> None:
    """Say that the packed data set is not of the settings that the build has now, if it is so."""
    from ip2p.manifest import find_stale

    with suppress(DataError):  # a damaged one is told by whoever reads it
        if stale := find_stale(build_folder.stage_folder("packed")):
            say(f"warning: {stale}")


def _finish(results: "Results") -> "Results":
    """Pack the data set, and write the report, which explains why where no pair was kept."""
    try:
        results.pack()
    finally:
        results.write_report()
    return results


def run(config: DatasetConfig, parallelism: Parallelism, partition: Partition | None) -> None:
    """Build a data set, or a share of it if a partition is given; see `build` and `build_partition`."""
    if partition:
        build_partition(config, partition, parallelism=parallelism)
    else:
        build(config, parallelism=parallelism)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; an expected failure prints one line and exits with 2, or a traceback with --debug."""
    parser = argparse.ArgumentParser(prog="python data_gen/pipeline.py", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--config",
        metavar="FILE",
        help=f"YAML file or name of a bundled one (default: the settings of the folder in out=, or {DEFAULT_CONFIG})",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help="processes that make pairs; 0: one on each GPU, or on each core without any",
    )
    parser.add_argument("--partition", type=int, metavar="I", help="share of the shards, from 0; as in Slurm arrays")
    parser.add_argument("--n-partitions", type=int, metavar="N", help="number of shares; 1 for no shares")
    parser.add_argument("--engine", default=ENGINES[0], help=f"{' or '.join(ENGINES)} (default: {ENGINES[0]})")
    parser.add_argument("--dry-run", action="store_true", help="only estimate hours, UNet rows, bytes and USD")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace those of the file")
    parsed = parser.parse_intermixed_args(arguments)  # options may stand between settings

    def work() -> None:
        config = load_settings(parsed.config, parsed.overrides)
        parallelism = parse_parallelism(parsed.workers, parsed.engine)
        partition = find_partition(parsed.partition, parsed.n_partitions)
        estimate(config, parallelism, partition) if parsed.dry_run else run(config, parallelism, partition)

    try:
        return run_program(work, debug=parsed.debug)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED_EXIT_CODE


if __name__ == "__main__":
    sys.exit(main())
