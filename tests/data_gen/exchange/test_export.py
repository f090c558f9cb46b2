"""Exported data sets are read back by what reads them elsewhere, with the same pixels and texts."""

import hashlib
import io
import json
import os
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import DatasetDict, load_dataset
from PIL import Image

from ip2p.cli import run
from ip2p.data_gen.exchange.export import LAYOUTS, Layout, export_pairs
from ip2p.data_gen.pairs.pack import pack, packed_row
from ip2p.data_gen.rows import to_png
from ip2p.data_gen.verify import verify
from ip2p.errors import DataError
from ip2p.manifest import read_manifest
from ip2p.pairs.read import read_pairs
from ip2p.records import Candidate, Triple
from ip2p.shards import Contents

COUNT = 7
HOSTILE = 'make it\n"winter" <b> 冬 \U0001f384 {x} ../../etc'


def pictures(number: int) -> tuple[Image.Image, Image.Image]:
    """Draw a pair of which a square differs."""
    before = Image.new("RGB", (64, 48), (number * 20, 90, 40))
    after = before.copy()
    after.paste((250, 250, 250), (8 + number, 8, 30, 30))
    return before, after


def packed(number: int) -> dict[str, Any]:
    """Make a row of a packed data set."""
    before, after = map(to_png, pictures(number))
    text = HOSTILE if number == 3 else f"do {number}"
    triple = Triple(
        id=f"t{number}", caption_id="c", caption=f"caption {number}", instruction=text,
        edited_caption=f"edited {number}", kind="color", writer="rules",
    )  # fmt: skip
    candidate = Candidate(id=f"k{number}", triple_id=triple.id, seed=1, p=0.5, cfg=4.0, steps=3)
    return packed_row(candidate, triple, {"original_image": before, "edited_image": after}, {"model": "m"})


def documents(_: str, files: dict[str, Contents]) -> dict[str, str]:
    """Write a card with a licence, and sections of which some are about the layout of the source."""
    header = "---\nlicense: cc0-1.0\nconfigs:\n- config_name: old\n---\n# Seven edits\n\n"
    use, origin = "## Use\n\n```python\n# load it\n```\n\n", "## Origin\n\n```yaml\n# settings\n```\n\n"
    return {"README.md": f"{header}{use}{origin}## Columns\n\nsim_direction and others.\n"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Pack seven pairs, one of them for testing."""
    rows = [("test" if number == COUNT - 1 else "train", packed(number)) for number in range(COUNT)]
    pack(rows, tmp_path / "source", shard_rows=3, documents=documents, config="x")
    return tmp_path / "source"


@pytest.fixture
def export(source: Path, tmp_path: Path) -> Any:
    """Export the pairs."""

    def write(layout: Layout) -> Path:
        assert export_pairs(source, tmp_path / layout, layout) == COUNT
        return tmp_path / layout

    return write


def load(folder: Path, cache: Path) -> DatasetDict:
    """Load a data set as others do."""
    return load_dataset(str(folder), cache_dir=str(cache))


def check(rows: Any, names: tuple[str, str, str]) -> None:
    """Compare rows with the pairs of the source."""
    for row in rows:
        text = row[names[2]]
        number = 3 if "winter" in text else int(text.split()[1])
        assert text == (" ".join(HOSTILE.split()) if number == 3 else f"do {number}")
        for name, image in zip(names, pictures(number), strict=False):
            assert row[name].convert("RGB").tobytes() == image.tobytes()


@pytest.mark.parametrize(
    ("layout", "names", "test"),
    [
        ("diffusers", ("input_image", "edited_image", "edit_prompt"), "test"),
        ("magicbrush", ("source_img", "target_img", "instruction"), "dev"),
        ("folder", ("original_image", "edited_image", "edit_prompt"), "test"),
    ],
)
def test_datasets_reads_it(export: Any, tmp_path: Path, layout: Layout, names: tuple[str, str, str], test: str) -> None:
    splits = load(export(layout), tmp_path / "cache")
    assert {name: len(rows) for name, rows in splits.items()} == {"train": COUNT - 1, test: 1}
    for rows in splits.values():
        check(rows, names)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_inverse_pairs_stay_marked_or_the_card_says_that_they_do_not(
    source: Path, tmp_path: Path, layout: Layout
) -> None:
    rows = [("train", packed(number) | {"inverse_of": "k0" if number == 1 else ""}) for number in range(3)]
    pack(rows, source, shard_rows=3, documents=documents, config="x")
    export_pairs(source, tmp_path / layout, layout)
    card = (tmp_path / layout / "README.md").read_text()
    if layout in ("ai-toolkit", "musubi", "magicbrush"):
        assert "inverse pairs are not marked" in card
        return
    found = load(tmp_path / layout, tmp_path / "cache")["train"]
    told = [row["json"]["inverse_of"] for row in found] if layout == "webdataset" else found["inverse_of"]
    assert told == ["", "k0", ""] and "not marked" not in card
    assert [row.inverse_of for row in read_pairs(tmp_path / layout)] == told


def test_datasets_reads_tar_files(export: Any, tmp_path: Path) -> None:
    splits = load(export("webdataset"), tmp_path / "cache")
    assert {name: len(rows) for name, rows in splits.items()} == {"train": COUNT - 1, "test": 1}
    for rows in splits.values():
        flat = [
            {
                "before": row["original_image.png"], "after": row["edited_image.png"],
                "text": row["json"]["edit_prompt"], "caption": row["json"]["original_prompt"],
            }
            for row in rows
        ]  # fmt: skip
        check(flat, ("before", "after", "text"))
        assert flat[0]["caption"].startswith("caption ")


def test_masks_of_magicbrush_are_transparent_where_something_changes(export: Any, tmp_path: Path) -> None:
    rows = load(export("magicbrush"), tmp_path / "cache")["train"]
    assert rows.column_names == ["img_id", "turn_index", "source_img", "mask_img", "instruction", "target_img"]
    mask = rows[0]["mask_img"]
    assert mask.mode == "RGBA" and mask.getpixel((20, 20))[3] == 0
    assert mask.getpixel((60, 40)) == (*pictures(0)[0].getpixel((60, 40)), 255)  # type: ignore[misc]


@pytest.mark.parametrize("layout", ["ai-toolkit", "musubi"])
def test_two_folders_have_files_of_the_same_names(export: Any, layout: Layout) -> None:
    folder = export(layout)
    if layout == "musubi":
        settings = tomllib.loads((folder / "dataset.toml").read_text())
        (entry,) = settings["datasets"]
        control, target = Path(entry["control_directory"]), Path(entry["image_directory"])
        assert settings["general"]["resolution"] == [64, 48] and settings["general"]["caption_extension"] == ".txt"
        assert len({entry["cache_directory"], *map(str, (control, target))}) == 3
    else:
        (entry,) = yaml.safe_load((folder / "datasets.yaml").read_text())["datasets"]
        control, target = Path(entry["control_path"]), Path(entry["folder_path"])
        assert entry["caption_ext"] == "txt"
    assert control == folder / "train" / "control" and target == folder / "train" / "target"
    names = sorted(path.name for path in control.iterdir())
    assert names == sorted(path.name for path in target.glob("*.png")) and len(names) == COUNT - 1
    rows = [
        {
            "before": Image.open(control / name), "after": Image.open(target / name),
            "text": (target / name).with_suffix(".txt").read_text().rstrip("\n"),
        }
        for name in names
    ]  # fmt: skip
    check(rows, ("before", "after", "text"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_was_exported_is_whole_has_marks_and_is_read_back(export: Any, source: Path, layout: Layout) -> None:
    folder = export(layout)
    assert sum(part.rows for part in verify(folder, say=lambda line: None)) == COUNT
    marked = b"trainedAlgorithmicMedia"
    back = {" ".join(row.instruction.split()): row for row in read_pairs(folder)}
    for row in read_pairs(source):
        again = back[" ".join(row.instruction.split())]
        assert (again.source, again.edited, again.fault) == (row.source, row.edited, "")
        assert again.source and marked in again.source
        assert again.split == ("test" if row.split == "test" else "train")
    card = (folder / "README.md").read_text()
    header = yaml.safe_load(card.split("---")[1])
    assert header["license"] == "cc0-1.0" and f"\n# {COUNT} edits" in card and "\n## Seven edits" in card
    assert "### Origin\n\n```yaml\n# settings\n```" in card, "where the pairs are from"
    assert "load it" not in card and "sim_direction" not in card, "what is true of the layout of the source only"
    columns = card.partition("## Columns\n\n")[2].partition("\n")[0]
    assert any(name in columns for name in ("edit_prompt", "instruction", "json"))
    if (folder / "croissant.json").exists():
        metadata = json.loads((folder / "croissant.json").read_text())
        assert metadata["license"] == "cc0-1.0" and "croissant.json" in card
        for each in metadata["recordSet"]:
            assert ", ".join(field["name"] for field in each["field"]) == columns.rstrip(".")
            assert [*folder.glob(f"data/{each['name']}-*"), *folder.glob(f"{each['name']}/metadata.jsonl")]
    else:
        assert layout in ("ai-toolkit", "musubi") and "croissant" not in card
    with pytest.raises(DataError, match="exists"):
        export_pairs(source, folder, layout)


def test_equal_pairs_give_equal_bytes_whatever_the_folder_is_called(source: Path, tmp_path: Path) -> None:
    for layout in LAYOUTS:
        digests = []
        for name in ("one", "two"):
            source = source.rename(tmp_path / f"of-{layout}-{name}")
            export_pairs(source, tmp_path / name, layout)
            digests.append(hashlib.sha256((tmp_path / name / "manifest.json").read_bytes()).hexdigest())
            (tmp_path / name).rename(tmp_path / f"{layout}-{name}")
        assert digests[0] == digests[1]


def test_other_pairs_have_another_fingerprint(source: Path, tmp_path: Path) -> None:
    pack([("train", packed(1))], tmp_path / "other" / "source", shard_rows=3, documents=documents, config="x")
    for name, each in (("a", source), ("b", tmp_path / "other" / "source")):
        export_pairs(each, tmp_path / name, "folder")
    first, second = (read_manifest(tmp_path / name) for name in ("a", "b"))
    assert first and second and first.config != second.config


def test_a_damaged_source_is_not_exported(source: Path, tmp_path: Path) -> None:
    (source / "README.md").unlink()
    with pytest.raises(DataError, match=r"README.md is missing. Make the data set again"):
        export_pairs(source, tmp_path / "out", "folder")
    assert not (tmp_path / "out").exists()


def test_other_formats_become_png_and_bad_rows_leave_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    before, after = pictures(1)
    before.save(folder / "a.webp", lossless=True)
    after.save(folder / "b.jpg")
    line = {"input": "a.webp", "output": "b.jpg", "instruction": "do 1"}
    (folder / "metadata.jsonl").write_text(json.dumps(line) + "\n")
    assert export_pairs(folder, tmp_path / "good", "ai-toolkit") == 1
    names = sorted(path.name for path in (tmp_path / "good" / "train").rglob("*.*"))
    assert names == ["0000000.jpg", "0000000.png", "0000000.txt"]
    assert "**unknown**" in (tmp_path / "good" / "README.md").read_text()
    with (folder / "metadata.jsonl").open("a") as stream:
        stream.write(json.dumps(line | {"output": "missing.png"}) + "\n")
    with pytest.raises(DataError, match="row 1: no edited picture.*ip2p dataset check"):
        export_pairs(folder, tmp_path / "bad", "folder")
    assert not (tmp_path / "bad").exists() and not list(tmp_path.glob(".*"))


def test_the_command_names_the_layouts(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    assert run(["dataset", "export", str(source), "--to", "folders", "-o", out]) == 2
    assert "webdataset, ai-toolkit, musubi, diffusers, magicbrush, folder" in capsys.readouterr().err
    assert run(["dataset", "export", str(source), "--to", "folder", "-o", out]) == 0
    assert capsys.readouterr().out == f"{out}: {COUNT} pairs\n"


class Hub(BaseHTTPRequestHandler):
    """A hub that takes small files."""

    received: list[tuple[str, bytes]] = []

    def do_GET(self) -> None:
        """Answer who is asking, and that there is nothing."""
        self._answer({"name": "someone"} if "whoami" in self.path else {"siblings": [], "sha": "0" * 40})

    def do_POST(self) -> None:
        """Take a repository, the list of files, and the files."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.received.append((self.path, body))
        host = f"http://{self.headers['Host']}"
        if self.path.endswith("/repos/create"):
            self._answer({"url": f"{host}/datasets/someone/pairs"})
        elif "preupload" in self.path:
            files = [{**each, "uploadMode": "regular", "shouldIgnore": False} for each in json.loads(body)["files"]]
            self._answer({"files": files})
        else:
            commit = f"{host}/datasets/someone/pairs/commit/{'0' * 40}"
            self._answer({"commitUrl": commit, "commitOid": "0" * 40, "pullRequestUrl": None})

    def _answer(self, values: dict[str, Any]) -> None:
        data = json.dumps(values).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


@pytest.fixture
def hub() -> Iterator[str]:
    """Start a hub; returns its address."""
    Hub.received = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_faulty_files_are_not_counted_as_written(source: Path) -> None:
    files = sorted((source / "data").iterdir())
    said: list[str] = []
    verify(source, say=said.append)
    assert f"{len(files)} files as written, {COUNT} rows" in said[-1]
    for file in files:
        file.write_bytes(b"damaged")
    with pytest.raises(DataError, match=f"{len(files)} faults in"):
        verify(source, say=said.append)
    assert "0 files as written, 0 rows" in said[-1]


@pytest.mark.slow
def test_push_uploads_a_private_data_set(source: Path, tmp_path: Path, hub: str) -> None:
    program = "import sys; from ip2p import cli; sys.exit(cli.run(sys.argv[1:]))"
    words = ["dataset", "export", str(source), "--to", "folder", "-o", str(tmp_path / "out"), "--push", "someone/pairs"]
    environment = os.environ | {
        "HF_ENDPOINT": hub,
        "HF_TOKEN": "hf_test",
        "HF_HOME": str(tmp_path),
        "HF_HUB_OFFLINE": "0",
    }
    done = subprocess.run([sys.executable, "-c", program, *words], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"{hub}/datasets/someone/pairs"
    asked = next(body for path, body in Hub.received if path == "/api/repos/create").decode()
    assert json.loads(asked)["name"] == "pairs" and "private" in asked, asked
    commits = [body for path, body in Hub.received if "/commit/" in path]
    lines = [json.loads(line) for commit in commits for line in io.BytesIO(commit)]
    names = {each["value"]["path"] for each in lines if each["key"] in ("file", "lfsFile")}
    assert {"README.md", "manifest.json", "train/metadata.jsonl", "train/0000001-edited_image.png"} <= names
    words[-3:] = [str(tmp_path / "again"), "--push", "someone/pairs"]
    offline = environment | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", program, *words], env=offline, capture_output=True, text=True)
    assert done.returncode == 2 and "HF_HUB_OFFLINE" in done.stderr and not (tmp_path / "again").exists()


def test_what_cannot_be_pushed_is_told_before_the_export_or_with_the_command_that_does_it(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("the hub is down")

    out = tmp_path / "my out"
    words = ["dataset", "export", str(source), "--to", "folder", "-o", str(out), "--push"]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.HfApi.whoami", lambda _: {"name": "ann"})
    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", refuse)
    assert run([*words, "ann/pairs"]) == 2
    assert "--push ann/pairs: nobody is logged in by `hf auth login`" in capsys.readouterr().err
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    assert run([*words, "a b/c"]) == 2 and "--push: a b/c is no name on the hub" in capsys.readouterr().err
    assert run([*words, "bob/pairs"]) == 2 and "Give ann/pairs, or leave out --push" in capsys.readouterr().err
    assert not out.exists()
    assert run([*words, "ann/pairs"]) == 2 and (out / "manifest.json").is_file()
    command = f"hf upload ann/pairs '{out}' --repo-type dataset --private"
    assert "the hub is down" in (said := capsys.readouterr().err) and command in said
