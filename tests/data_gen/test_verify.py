"""A damaged build is found by `ip2p dataset verify`, and heals where it is made again."""

import contextlib
import random
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ip2p.builds import read_fingerprint
from ip2p.cli import run
from ip2p.data_gen import pipeline
from ip2p.data_gen.build_file import load_settings, read_origins
from ip2p.data_gen.build_folder import BuildFolder
from ip2p.data_gen.config import DatasetConfig
from ip2p.data_gen.scale.partition import Partition
from ip2p.data_gen.verify import verify
from ip2p.errors import DataError, Ip2pError
from ip2p.manifest import MANIFEST_FILE, find_stale, read_manifest, verify_dataset
from ip2p.shards import atomic_write
from ip2p.train.pairs import open_pairs

MakeConfig = Callable[..., DatasetConfig]

pytestmark = pytest.mark.filterwarnings("ignore:text longer than")


def quiet(_: str) -> None:
    """Print nothing."""


def flip(path: Path, rng: random.Random) -> None:
    """Flip a bit of a file."""
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    atomic_write(path, bytes(data))


@pytest.mark.slow
def test_every_flipped_bit_of_a_build_is_found(make_config: MakeConfig, tmp_path: Path) -> None:
    config, rng = make_config(), random.Random(5)
    pipeline.build(config, say=quiet)
    out = Path(config.out)
    lines: list[str] = []
    parts = verify(out, say=lines.append)
    assert [part.name for part in parts] == ["captions", "triples", "candidates", "scores", "filtered", "packed"]
    assert [part.rows for part in parts][:3] == [7, 7, 14] and len(lines) == 6
    files = sorted(out.rglob("*.parquet"))
    for _ in range(60):
        path = rng.choice(files)
        whole = path.read_bytes()
        flip(path, rng)
        with pytest.raises(DataError, match="1 fault in"):
            verify(out, say=quiet)
        atomic_write(path, whole)
    verify(out, say=quiet)
    verify(out / "packed", say=quiet)
    with pytest.raises(DataError, match="does not exist"):
        verify(tmp_path / "nowhere", say=quiet)


@pytest.mark.slow
def test_a_build_that_is_damaged_does_not_end_with_fewer_pairs(make_config: MakeConfig) -> None:
    config, rng = make_config(), random.Random(6)
    whole = pipeline.build(config, say=quiet).counts.pairs
    packed = Path(config.out) / "packed"
    manifest = (packed / MANIFEST_FILE).read_bytes()
    flip(next((packed / "data").glob("train-*.parquet")), rng)
    pipeline.refilter(config, say=quiet)
    assert (packed / MANIFEST_FILE).read_bytes() == manifest, "what is damaged is packed again"
    shutil.rmtree(packed)
    shard = Path(config.out) / "scores" / "shard-00001.parquet"
    before = shard.read_bytes()
    flip(shard, rng)
    with pytest.raises(DataError, match="shard-00001.parquet"):
        pipeline.refilter(make_config("filter.top_k=2"), say=quiet)
    atomic_write(shard, before)
    (Path(config.out) / "captions" / "shard-00003.json").unlink()
    with pytest.raises(DataError, match="captions ends before shard 3"):
        pipeline.refilter(config, say=quiet)
    assert pipeline.build(config, say=quiet).counts.pairs == whole


@pytest.mark.slow
def test_two_filters_at_once_leave_the_data_set_of_one(
    make_config: MakeConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config()
    pipeline.build(config, say=quiet)
    packed = Path(config.out) / "packed"
    others = [load_settings(None, [f"out={config.out}", "filter.direction=-1", f"filter.top_k={k}"]) for k in (1, 2)]

    def refilter(settings: DatasetConfig) -> str:
        try:
            return f"kept {pipeline.refilter(settings, say=quiet).counts.pairs}"
        except DataError as error:
            return str(error)

    def describe() -> tuple[str, int]:
        manifest = verify_dataset(packed)
        assert manifest
        return manifest.config, sum(each.rows for each in manifest.files.values())

    alone = []
    for each in others:
        refilter(each)
        alone.append(describe())
    assert len(set(alone)) == 2
    for _ in range(6):
        with ThreadPoolExecutor(2) as pool:
            said = list(pool.map(refilter, others))
        winners = [number for number, text in enumerate(said) if text.startswith("kept")]
        assert winners and all("another run is writing" in text for text in said if not text.startswith("kept"))
        assert describe() in [alone[number] for number in winners]
        assert run(["dataset", "report", f"out={config.out}"]) == 0
    capsys.readouterr()
    assert run(["dataset", "verify", config.out]) == 0
    assert f"files as written, {describe()[1]} rows" in capsys.readouterr().out.splitlines()[-1]


def test_a_filter_that_keeps_nothing_leaves_no_stale_pairs_without_a_word(
    make_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config("captions.count=2", "filter.direction=-1", "pack.split=0")
    pipeline.build(config, say=quiet)
    out, packed = config.out, Path(config.out) / "packed"
    before = (packed / MANIFEST_FILE).read_bytes()
    assert run(["dataset", "filter", f"out={out}", "filter.direction=1"]) == 2
    assert "no pair was kept" in capsys.readouterr().err and (packed / MANIFEST_FILE).read_bytes() == before
    assert run(["dataset", "verify", out]) == 2
    stale = f"packed by an earlier filter: its settings are not those that {out} has now"
    assert stale in capsys.readouterr().err
    assert run(["dataset", "export", out, "--to", "folder", "-o", str(tmp_path / "exported")]) == 2
    assert f"Run `ip2p dataset filter out={out}`" in capsys.readouterr().err and not (tmp_path / "exported").exists()
    assert run(["dataset", "report", f"out={out}"]) == 0
    assert stale in capsys.readouterr().out
    with pytest.raises(DataError, match="packed by an earlier filter"):
        open_pairs(packed)
    assert run(["dataset", "filter", f"out={out}", "filter.direction=-1"]) == 0
    assert run(["dataset", "verify", out]) == 0 and (packed / MANIFEST_FILE).read_bytes() == before
    open_pairs(packed)
    readme = packed / "README.md"
    readme.write_text(f"{readme.read_text()}Words of mine.\n")
    capsys.readouterr()
    assert run(["dataset", "verify", out]) == 0
    assert "README.md is not as it was written" in capsys.readouterr().out
    assert run(["dataset", "filter", f"out={out}", "filter.top_k=2"]) == 0
    said = capsys.readouterr().out
    assert "Words of mine" not in readme.read_text() and "README.edited.md" in said
    assert (Path(out) / "README.edited.md").read_text().endswith("Words of mine.\n")


def test_what_cannot_be_compared_is_no_build_that_is_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, torn = tmp_path / "out", "build.json is unreadable"
    (out / "packed").mkdir(parents=True)
    (out / "build.json").write_text('{"seed": 0, ')
    for arguments, said in (
        (["verify", str(tmp_path / "nowhere")], "nowhere does not exist"),
        (["verify", str(out / "build.json")], "build.json is a file"),
        (["verify", str(out)], "2 faults in"),
        (["filter", f"out={out}"], torn),
        (["report", f"out={out}"], torn),
        (["filter", str(out)], f"Write out={out}"),
        (["calibrate", str(out)], f"Write out={out}"),
    ):
        assert run(["dataset", *arguments]) == 2
        printed = capsys.readouterr()
        assert said in printed.err and printed.err.count("\n") == 1
        if "2 faults" in said:
            assert torn in printed.out and "packed has no manifest.json" in printed.out


def test_no_command_changes_settings_without_the_data_set_being_stale(make_config: MakeConfig) -> None:
    """Whatever command is run with whatever settings, what it leaves says whether the pairs are packed by them."""
    small = ("captions.count=2", "filter.direction=-1", "pack.split=0")
    config = make_config(*small)
    pipeline.build(config, say=quiet)
    out, folder = config.out, f"out={config.out}"
    manifest = verify_dataset(Path(out) / "packed")
    assert manifest
    commands: dict[str, Callable[[DatasetConfig], object]] = {
        "triples": lambda settings: pipeline.write_triples(settings, say=quiet),
        "partition": lambda settings: pipeline.build_partition(settings, Partition(0, 2), say=quiet),
        "report": lambda settings: pipeline.report(settings, say=quiet),
        "review": lambda settings: pipeline.review(settings, 2, say=quiet),
        "filter": lambda settings: pipeline.refilter(settings, say=quiet),
    }
    changes = (
        "seed=1", "captions.max_words=39", "triples.checks.kept=0.5", "triples.max_usd=1", "pairs.steps=4",
        "scores.judge_parallel=2", "filter.direction=1", "filter.top_k=2", "filter.per_kind.color.direction=1",
        "pack.preferences=false", "filter.direction=-1",
    )  # fmt: skip
    stale = []
    for name, run_command in commands.items():
        for change in changes:
            with contextlib.suppress(Ip2pError):
                run_command(load_settings(None, [folder, change]))
            now = BuildFolder(load_settings(None, [folder]), read_origins(Path(out))).fingerprint("packed")
            manifest = read_manifest(Path(out) / "packed")
            assert manifest and read_fingerprint(Path(out)) == now, (name, change)
            stale += [f"{name} {change}"] * (find_stale(Path(out) / "packed") is not None)
    assert "triples filter.direction=1" in stale and "triples triples.max_usd=1" not in stale
    assert "filter filter.direction=1" in stale and "filter filter.direction=-1" not in stale


def test_no_filter_destroys_what_a_person_has_written_into_the_data_set(make_config: MakeConfig) -> None:
    config = make_config("captions.count=2", "filter.direction=-1", "pack.split=0")
    pipeline.build(config, say=quiet)
    out, packed = Path(config.out), Path(config.out) / "packed"
    written = {"README.md": "the first", "notes": "of mine"}, {"README.md": "---\ntorn: [\n---\n", "manifest.json": "{"}
    (packed / "mine").mkdir()
    (packed / "mine" / "pairs.csv").write_text("of mine, too")
    for number, files in enumerate(written, 1):
        for name, text in files.items():
            (packed / name).write_text(text)
        pipeline.refilter(make_config("captions.count=2", f"filter.direction=-0.{number}", "pack.split=0"), say=quiet)
        assert (packed / "README.md").read_text() not in files.values()
    assert [(out / f"README.edited{more}.md").read_text() for more in ("", "-2")] == [
        each["README.md"] for each in written
    ]
    assert (out / "notes.edited").read_text() == "of mine"
    assert (out / "packed.edited" / "mine" / "pairs.csv").read_text() == "of mine, too"
    kept = sorted(out.glob("*.edited*"))
    pipeline.refilter(make_config("captions.count=2", "filter.direction=-0.3", "pack.split=0"), say=quiet)
    assert sorted(out.glob("*.edited*")) == kept, "what is as it was written is not kept"
