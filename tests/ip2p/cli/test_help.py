"""`--help` shows options in groups, and every key of a config with its default and meaning."""

import subprocess
import sys

import pytest
from typer.main import get_command

from ip2p import cli
from ip2p.cli import app
from ip2p.cli.help import PANELS, KeyGroup, key_groups, panel_of
from ip2p.cli.lazy import MODULES, load_commands
from ip2p.data_gen.config import DatasetConfig
from ip2p.train.config import FinetuneConfig


def shown(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.run([*arguments, "--help"]) == 0
    return capsys.readouterr().out


def test_options_of_edit_stand_in_groups_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    output = shown(["edit"], capsys)
    own = ("Picture", "Edit", "Quality and speed", "Model", "Output")
    assert [title for title in PANELS if title in own] == list(own)
    places = [output.index(f"\n{title}:\n") for title in ("Arguments", *own, "Options")]
    assert places == sorted(places)
    assert output.index("--mask") < output.index("--text-scale") < output.index("--steps") < output.index("--output")


def test_figures_of_edits_stand_beside_presets_of_edits_only(capsys: pytest.CaptureFixture[str]) -> None:
    shown_of = {name: " ".join(shown([name], capsys).split()) for name in ("edit", "generate")}
    assert "exact (60 UNet rows, exact), balanced" in shown_of["edit"]
    assert "Settings that go together: exact, balanced, fast, paper; see docs/editing.md" in shown_of["generate"]


@pytest.mark.parametrize("name", ["edit", "generate", "batch", "grid"])
def test_every_option_of_a_command_that_makes_pictures_is_in_a_group(name: str) -> None:
    options = get_command(app).commands[name].params  # type: ignore[attr-defined]
    assert {panel_of(each) for each in options} <= {"Arguments", *PANELS}


@pytest.mark.parametrize(
    ("command", "config"),
    [(["dataset", "build"], DatasetConfig), (["dataset", "filter"], DatasetConfig), (["finetune"], FinetuneConfig)],
)
def test_keys_are_shown_with_default_and_meaning(
    command: list[str], config: type[DatasetConfig | FinetuneConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    words = " ".join(shown(command, capsys).split())
    for group in key_groups(config):
        for key in group.keys:
            assert key.meaning and f" {key.setting} {key.meaning.split()[0]}" in words


def test_keys_are_those_of_the_class() -> None:
    groups = {group.prefix: group for group in key_groups(DatasetConfig)}
    assert {key.name for key in groups[""].keys} == {"seed", "out", "shard_size"}
    assert isinstance(groups["triples.checks"], KeyGroup)
    keys = {key.name: key for group in groups.values() for key in group.keys}
    assert keys["pairs.steps"].type == "int, >= 1"
    assert keys["triples.price_in"].type == "float | null, >= 0"
    assert keys["triples.model"].default == '""'
    assert keys["pairs.share"].type == "attention | features"
    assert keys["filter.per_kind.NAME.image"].default == "null"


@pytest.mark.parametrize("command", [["edit"], ["dataset", "build"], ["finetune"]])
def test_help_of_a_command_does_without_torch(command: list[str]) -> None:
    program = f"import sys; from ip2p import cli; cli.run({[*command, '--help']}); print('loaded:', *sys.modules)"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert not {"torch", "numpy", "diffusers", "pyarrow", "PIL"} & set(output.partition("loaded: ")[2].split())


def test_commands_that_are_not_imported_yet_say_what_they_do() -> None:
    for name, command in load_commands().items():
        assert MODULES[name][1] == command.help.partition("\n")[0], name
