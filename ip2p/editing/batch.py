"""Edit the rows of a batch file: atomic pictures, one line of results for each, resumable after any interruption.

A finished edit is recorded twice: by a line in `results.jsonl`, appended when the picture is on disk, and by the id in
the picture itself, in case of a kill between the two. A run reads both and makes the other edits, failed ones too.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from ip2p.editing.batch_rows import RESULTS_NAME, PlannedEdit, read_batch_file
from ip2p.editing.editor import Edited, Editor
from ip2p.editing.masks import open_mask
from ip2p.editing.requests import resolve_settings, working_size
from ip2p.editing.sequence import edit_in_sequence
from ip2p.errors import DataError, ImageError, find_expected, one_line
from ip2p.ownership import sole_writer
from ip2p.pictures.color import to_rgb
from ip2p.pictures.contact_sheet import contact_sheet
from ip2p.pictures.parameters import describe_source
from ip2p.pictures.read import open_image
from ip2p.pictures.write import read_parameters, save_picture
from ip2p.progress import StageProgress
from ip2p.shards import atomic_write, sweep_temporaries

RESULTS_FILE = f"{RESULTS_NAME}.jsonl"
SHEET_FILE = f"{RESULTS_NAME}.png"
MAX_WAITING_PIXELS = 50_000_000
"""Limit of the pixels of all waiting pictures; beyond it, the largest group is edited even if it is not full."""
SHEET_ROWS = 12
THUMBNAIL = 192
ID_KEY = "edit"
EDITS_KEY = "edits"
NOTES = ("changed", "blocked")
"""Parameters of a picture that its line of results has, too."""

Say = Callable[[str], None]


class BatchSummary(NamedTuple):
    """Counts of edits: done and failed in this run, and done before."""

    done: int
    failed: int
    before: int


class WaitingEdit(NamedTuple):
    """An edit with its pictures and their names and hashes, waiting for others of its size and settings."""

    edit: PlannedEdit
    image: Image.Image
    mask: Image.Image | None
    about: dict[str, Any]


class BatchRun:
    """A run that makes the edits of one batch file into one folder.

    Args:
        file: path of the batch file, see `ip2p.editing.batch_rows`.
        out: folder of the results; created if missing.
        load: function that loads the editor; called only if there is something to edit.
        model: name of the editor.
        weights: fingerprint of its files and options. The ids of edits depend on both.
        defaults: settings of rows without their own; `preset` names one for rows that name none.
        size: number of pictures in a batch.
        say: function that prints a line.
    """

    def __init__(
        self,
        file: Path,
        out: Path,
        load: Callable[[], Editor],
        *,
        model: str,
        weights: str = "",
        defaults: dict[str, Any],
        size: int,
        say: Say,
    ) -> None:
        self.file, self.out, self.load, self.size, self.say = file, out, load, size, say
        self.defaults = {name: value for name, value in defaults.items() if value is not None}
        self.edits = list(read_batch_file(file, self.defaults | {"model": model}, weights))
        if not self.edits:
            raise DataError(f"{file} has no rows", 'Write one a line: {"image": ..., "instruction": ...}')
        self._require_own_summary()
        self.results = _read_results(out / RESULTS_FILE)
        self.waiting: dict[Any, list[WaitingEdit]] = {}

    @cached_property
    def editor(self) -> Editor:
        """The editor, loaded on first use."""
        return self.load()

    def run(self) -> BatchSummary:
        """Make the missing edits, and write the results in the order of the rows.

        Raises:
            ModelError: there is no such editor.
            DataError: another run is writing to the folder.
        """
        if any(not edit.error and not self._is_made(edit) for edit in self.edits):
            _ = self.editor  # a missing model is reported before anything is written
        self.out.mkdir(parents=True, exist_ok=True)
        with sole_writer(self.out):
            return self._run()

    def _run(self) -> BatchSummary:
        """Run with the folder locked."""
        self.results = _read_results(self.out / RESULTS_FILE)  # another run may have ended meanwhile
        made = [edit for edit in self.edits if self._is_made(edit)]
        known = {edit.id for edit in made}
        todo = [edit for edit in self.edits if edit.id not in known]
        for folder in {self.out, *((self.out / edit.output).parent for edit in self.edits if edit.output)}:
            if folder.resolve().is_relative_to(self.out.resolve()):
                sweep_temporaries(folder)
        self._write()
        with StageProgress("edit", "pictures", total=len(self.edits), done=len(made), say=self.say) as progress:
            failed = 0
            for result in self._make(todo):
                self._append(result)
                failed += result["status"] == "failed"
                progress.advance(1, f"{failed} failed" if failed else "")
        self._write()
        self._draw_sheet()
        for edit in todo:
            if self.results[edit.id]["status"] == "failed":
                self.say(f"line {edit.line} failed: {self.results[edit.id]['error']}")
        return BatchSummary(len(todo) - failed, failed, len(made))

    def _is_made(self, edit: PlannedEdit) -> bool:
        """Whether an edit is on disk; its result is then updated from the row."""
        path = self.out / edit.output
        if edit.error or not path.is_file():
            return False
        parameters = _read_parameters(path)
        if parameters.get(ID_KEY) != edit.id:
            return False
        self.results[edit.id] = _to_result(edit) | _select(parameters, NOTES)
        return True

    def _make(self, todo: Sequence[PlannedEdit]) -> Iterator[dict[str, Any]]:
        """Make edits and yield their results; those of one size and equal settings are made together."""
        for edit in todo:
            try:
                if edit.error:
                    yield _to_result(edit, edit.error)
                    continue
                waiting = self._open(edit)
                key = self._group_key(waiting)
            except Exception as error:  # an error of one row must not stop the others
                yield _to_result(edit, _describe(error))
                continue
            self.waiting.setdefault(key, []).append(waiting)
            if len(self.waiting[key]) >= self.size:
                yield from self._edit(self.waiting.pop(key))
            while self._waiting_pixels() > MAX_WAITING_PIXELS:
                yield from self._edit(self.waiting.pop(max(self.waiting, key=lambda each: len(self.waiting[each]))))
        while self.waiting:
            yield from self._edit(self.waiting.pop(next(iter(self.waiting))))

    def _open(self, edit: PlannedEdit) -> WaitingEdit:
        """Open the pictures of an edit."""
        assert edit.row
        self._refuse_foreign(edit)
        path, masked = self.file.parent / edit.row.image, self.file.parent / edit.row.mask if edit.row.mask else None
        image = open_image(path, edit.row.frame)
        mask = open_mask(masked, image.size) if masked else None
        return WaitingEdit(edit, image, mask, describe_source(path, mask=masked, frame=edit.row.frame))

    @cached_property
    def _read_files(self) -> set[Path]:
        """The file of rows, and all pictures and masks that it names."""
        rows = [edit.row for edit in self.edits if edit.row]
        names = {name for row in rows for name in (row.image, row.mask) if name and "\0" not in name}
        return {Path(os.path.realpath(path)) for path in (self.file, *(self.file.parent / name for name in names))}

    def _require_own_summary(self) -> None:
        """Check that the files that tell of the whole batch are there to be written.

        Raises:
            DataError: one of them is a file of somebody else's.
        """
        for name, is_own in ((RESULTS_FILE, _is_results), (SHEET_FILE, _is_sheet)):
            path = self.out / name
            if path.is_symlink() or path.is_dir() or (path.exists() and not is_own(path)):
                raise DataError(
                    f"{path} is there and was not written by `ip2p batch`", "Give another folder, or move it away"
                )
        other = _read_parameters(self.out / SHEET_FILE).get(EDITS_KEY, self.file.name)
        if other != self.file.name:
            raise DataError(f"{self.out} has the results of {other}", "Give another folder")

    def _refuse_foreign(self, edit: PlannedEdit) -> None:
        """Refuse to replace any file but the result of this very edit, and to write outside of the folder.

        Raises:
            ImageError: the edit would do either.
        """
        path = self.out / edit.output
        if blocking := [each for each in path.parents if each.exists() and not each.is_dir()]:
            raise ImageError(f"{blocking[0]} is a file, not a folder", "Give another name")
        if not path.resolve().is_relative_to(self.out.resolve()):
            raise ImageError(f"the output {edit.output} is a link that leads out of {self.out}", "Give another name")
        if path.resolve() in self._read_files:
            raise ImageError(f"the output {edit.output} is a file that the edits read", "Give another name")
        if path.exists():
            owner = _read_id(path)
            if owner is None:
                raise ImageError(
                    f"{path} exists and was not made by `ip2p batch`", "Give another name, or move it away"
                )
            if owner != edit.id:
                raise ImageError(
                    f"{path} exists and is the result of another edit, or of this one before its picture, mask or "
                    "model changed",
                    "Give another name, or delete it",
                )

    def _group_key(self, waiting: WaitingEdit) -> Any:
        """The key that pictures edited together share: working size, settings, negative prompt, instructions."""
        row = waiting.edit.row
        assert row
        backbone, options = self.editor.backbone, row.options(self.defaults)
        negative_prompt = options.pop("negative_prompt", None) or None
        settings = resolve_settings(backbone, None, None, options, arguments=Editor.edit)
        size = working_size(waiting.image.size, settings.resolution, backbone.downscale)
        sequence = row.sequence if len(row.sequence) > 1 else None
        return size, settings.model_dump_json(), negative_prompt, sequence

    def _waiting_pixels(self) -> int:
        """Pixels of all waiting pictures."""
        return sum(each.image.width * each.image.height for group in self.waiting.values() for each in group)

    def _edit(self, group: Sequence[WaitingEdit]) -> Iterator[dict[str, Any]]:
        """Edit a group and save its pictures; one by one if the group fails, so that only invalid edits fail."""
        try:
            edited = self._draw(group)
        except Exception as error:
            if len(group) > 1:
                for each in group:
                    yield from self._edit([each])
            else:
                yield _to_result(group[0].edit, _describe(error))
            return
        for each, made in zip(group, edited, strict=True):
            try:
                self._refuse_foreign(each.edit)  # another program may have written there meanwhile
                about = each.about | {ID_KEY: each.edit.id}
                save_picture(made.image, self.out / each.edit.output, made.parameters | about)
                yield _to_result(each.edit) | _select(made.parameters, NOTES)
            except Exception as error:  # an error of one row must not stop the others
                yield _to_result(each.edit, _describe(error))

    def _draw(self, group: Sequence[WaitingEdit]) -> list[Edited]:
        """Draw the edits of a group, whose settings are equal."""
        rows = [each.edit.row for each in group if each.edit.row]
        settings = rows[0].options(self.defaults)
        chosen: dict[str, Any] = {
            "seeds": [each.edit.seed for each in group], "masks": [each.mask for each in group], "batch": self.size,
            "measure_change": True,
        }  # fmt: skip
        images = [each.image for each in group]
        if len(rows[0].sequence) > 1:
            return edit_in_sequence(self.editor, images, rows[0].sequence, **chosen, **settings)
        return self.editor.edit(images, [row.sequence[0] for row in rows], **chosen, **settings)

    def _append(self, result: dict[str, Any]) -> None:
        """Append a line of results and flush it to disk."""
        self.results[result["id"]] = result
        with (self.out / RESULTS_FILE).open("ab") as stream:
            stream.write(_to_line(result))
            stream.flush()
            os.fsync(stream.fileno())

    def _write(self) -> None:
        """Write the results in the order of the rows, without torn and outdated lines.

        Results of another file of edits stay as long as their pictures are there.
        """
        own = {edit.id: self.results[edit.id] for edit in self.edits if edit.id in self.results}
        named = {result.get("output") for result in own.values()}
        others = [
            result for name, result in self.results.items()
            if name not in own and result.get("output") not in named and self._is_there(result)
        ]  # fmt: skip
        atomic_write(self.out / RESULTS_FILE, b"".join(map(_to_line, [*own.values(), *others])))

    def _is_there(self, result: Mapping[str, Any]) -> bool:
        """Whether the picture of a result is on disk."""
        output = result.get("output")
        return isinstance(output, str) and _read_id(self.out / output) == result.get("id")

    def _draw_sheet(self) -> None:
        """Draw a contact sheet of the first edits, before and after."""
        shown = [edit for edit in self.edits if self.results[edit.id]["status"] == "done"][:SHEET_ROWS]
        rows, labels = [], []
        for edit in shown:
            assert edit.row
            try:
                files = (self.file.parent / edit.row.image, self.out / edit.output)
                pair = [to_rgb(open_image(file)) for file in files]
            except ImageError:  # moved away after it was edited
                continue
            for image in pair:
                image.thumbnail((THUMBNAIL, THUMBNAIL))
            rows.append(pair)
            labels.append(", then ".join(edit.row.sequence))
        if rows:
            save_picture(
                contact_sheet(rows, labels, ["before", "after"]), self.out / SHEET_FILE, {EDITS_KEY: self.file.name}
            )


def _to_result(edit: PlannedEdit, error: str = "") -> dict[str, Any]:
    """Make a result: the content of a line of results."""
    row = {"image": edit.row.image, "instructions": list(edit.row.sequence)} if edit.row else {}
    made = {"status": "failed", "error": error} if error else {"status": "done", "output": edit.output}
    return {"line": edit.line, "id": edit.id, **row, "seed": edit.seed, **made}


def _to_line(result: dict[str, Any]) -> bytes:
    return (json.dumps(result, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def _read_results(path: Path) -> dict[str, dict[str, Any]]:
    """Read the results of earlier runs by id, the last one of each; torn lines are skipped."""
    found = {}
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        try:
            result = json.loads(line)
            found[str(result["id"])] = dict(result)
        except (ValueError, KeyError, TypeError):
            continue
    return found


def _is_results(path: Path) -> bool:
    """Whether every line of a file but a torn last one is a result of an edit."""
    lines = path.read_bytes().split(b"\n")
    try:
        whole = all({"id", "line", "status"} <= json.loads(line).keys() for line in lines[:-1])
        return whole and b'{"line": '.startswith(lines[-1][:9])
    except (ValueError, AttributeError):
        return False


def _is_sheet(path: Path) -> bool:
    """Whether a picture is the sheet of a batch."""
    return EDITS_KEY in _read_parameters(path)


def _read_id(path: Path) -> str | None:
    """Read the id of the edit that made a picture; None if `ip2p batch` did not make it."""
    found = _read_parameters(path).get(ID_KEY)
    return None if found is None else str(found)


def _read_parameters(path: Path) -> dict[str, Any]:
    """Read the parameters of a picture; empty if it is not there, or has none."""
    try:
        return read_parameters(path) if path.is_file() else {}
    except ImageError:
        return {}


def _select(values: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: values[name] for name in names if name in values}


def _describe(error: Exception) -> str:
    expected = find_expected(error)
    return one_line(expected, 300) if expected else f"{type(error).__name__}: {one_line(error, 300)}"
