"""Settings are read again from the folder of a build, and folders have one writer at a time."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ip2p.builds import BUILD_FILE
from ip2p.config import load_config
from ip2p.data_gen.build_file import load_settings, read_origins, read_sections
from ip2p.data_gen.build_folder import LEASES, BuildFolder
from ip2p.data_gen.config import DatasetConfig
from ip2p.data_gen.pipeline import write_triples
from ip2p.errors import ConfigError, DataError
from ip2p.ownership import sole_writer
from ip2p.shards import write_shard

MakeConfig = Callable[..., DatasetConfig]
OTHERS = ("seed=3", "filter.per_kind.season.image=0.3", "triples.max_usd=2", "pack.split=0.1", "pairs.steps=7")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Return the folder of the settings."""
    return tmp_path / "out"


def begin(config: DatasetConfig, *, last: str = "packed", **origins: str) -> None:
    """Begin a build, and finish its first shard of captions."""
    folder = BuildFolder(config, origins)
    with folder.claim(last):  # type: ignore[arg-type]
        write_shard(folder.stage_folder("captions"), 0, [{"id": "a"}], config=folder.fingerprint("captions"))


def test_a_folder_knows_all_of_its_settings(make_config: MakeConfig, out: Path) -> None:
    config = make_config(*OTHERS)
    begin(config, **{"pairs.model (its weights)": "abc"})
    assert load_settings(None, [f"out={out}"]) == config
    assert load_settings(None, [f"out={out}"], begun=True) == config
    assert load_settings(None, [f"out={out}", "filter.image=0.9"]).filter.image == 0.9
    assert read_origins(out) == {"pairs.model (its weights)": "abc"}


def test_a_named_config_counts_alone(make_config: MakeConfig, out: Path, tmp_path: Path) -> None:
    begin(make_config(*OTHERS))
    file = tmp_path / "run.yaml"
    file.write_text("seed: 9\n")
    assert load_settings(str(file), [f"out={out}"]) == load_config(DatasetConfig, file, [f"out={out}"])
    assert load_settings(None, ["seed=4"]).out == "data/storybook"


def test_after_triples_the_other_sections_are_free(make_config: MakeConfig, out: Path) -> None:
    config = load_config(DatasetConfig, None, [f"out={out}", "captions.source=a.txt", "triples.per_caption=2"])
    begin(config, last="triples")
    assert set(read_sections(out)) == {"seed", "shard_size", "captions", "triples"}
    later = load_settings(None, [f"out={out}"])
    bundled = load_config(DatasetConfig, "storybook_dataset.yaml")
    assert (later.captions, later.triples, later.shard_size) == (config.captions, config.triples, 32)
    assert (later.pairs, later.filter) == (bundled.pairs, bundled.filter)


def test_after_triples_what_was_set_for_later_stages_is_not_lost(out: Path) -> None:
    config = load_config(DatasetConfig, "paper_dataset.yaml", [f"out={out}"])
    begin(config, last="triples")
    assert load_settings(None, [f"out={out}"]) == config
    begin(load_settings(None, [f"out={out}", "triples.max_usd=3"]), last="triples")
    begin(load_settings(None, [f"out={out}"]))
    assert load_settings(None, [f"out={out}"]).pairs == config.pairs


def test_settings_of_an_older_build_file_are_read(out: Path) -> None:
    out.mkdir()
    (out / BUILD_FILE).write_text(
        json.dumps({"seed": 5, "pairs.steps": 3, "schema_version": 1, "a (its weights)": "x"})
    )
    found = load_settings(None, [f"out={out}"])
    assert (found.seed, found.pairs.steps) == (5, 3)
    assert found.filter == load_config(DatasetConfig, "storybook_dataset.yaml").filter


def test_contradictions_are_refused_without_advice_to_remove_anything(make_config: MakeConfig, out: Path) -> None:
    begin(make_config())
    with pytest.raises(ConfigError, match="seed was 0 .* and is 1 now") as caught:
        begin(make_config("seed=1"))
    assert "remove" not in str(caught.value) and "delete" not in str(caught.value).lower()
    assert load_settings(None, [f"out={out}"]).seed == 0


def test_a_run_that_only_reads_writes_no_settings(make_config: MakeConfig, out: Path) -> None:
    begin(make_config())
    with BuildFolder(make_config("filter.image=0.9"), {}).claim(write=False):
        assert load_settings(None, [f"out={out}"]).filter.image == 0


def test_a_folder_has_one_writer_at_a_time(make_config: MakeConfig, out: Path) -> None:
    config = make_config()
    begin(config)
    with sole_writer(out, file=f"{LEASES}/folder"), pytest.raises(DataError, match="another run is writing to"):
        begin(config)
    begin(config)


def test_one_setting_that_is_given_early_leaves_the_others_to_the_default_config(tmp_path: Path) -> None:
    out = f"out={tmp_path / 'out'}"
    write_triples(
        load_settings(None, [out, "captions.count=2", "pairs.candidates=1"], default=None), say=lambda line: None
    )
    begun, default = load_settings(None, [out]).pairs, load_config(DatasetConfig, "storybook_dataset.yaml").pairs
    assert begun == default.model_copy(update={"candidates": 1})
    assert load_settings(None, [out]).captions.count == 2


def test_a_build_file_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "build.json").write_text("[1]")
    with pytest.raises(DataError, match=r"build\.json is unreadable"):
        load_settings(None, [f"out={tmp_path}"])
