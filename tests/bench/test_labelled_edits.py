"""Folders of edits to label: drawn whole, or not at all."""

from pathlib import Path
from typing import Any

import labelled_edits
import pytest

from ip2p.errors import DataError
from ip2p.storybook.edits import evaluation_cases

pytestmark = pytest.mark.filterwarnings("ignore:text longer than")


def test_a_folder_is_drawn_whole_or_not_at_all(
    editor_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases, folder, save = evaluation_cases(2, 5), tmp_path / "eye", labelled_edits.save_picture

    def stop_at_the_second(image: Any, path: Path, parameters: Any) -> None:
        if path.name == "01.webp":
            raise KeyboardInterrupt
        save(image, path, parameters)

    with monkeypatch.context() as patch:
        patch.setattr(labelled_edits, "save_picture", stop_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            labelled_edits.draw_folder(folder, cases, str(editor_folder))
    assert not list(tmp_path.iterdir())
    labelled_edits.draw_folder(folder, cases, str(editor_folder))
    drawn = labelled_edits.read_edits(folder)
    assert [each.case for each in drawn] == list(cases) and not any(each.label for each in drawn)
    with pytest.raises(DataError, match="2 edits without a label"):
        labelled_edits.read_labelled([folder])
    labelled_edits.label(folder, [1])
    assert [each.label for each in labelled_edits.read_labelled([folder])] == [False, True]


def test_what_to_do_about_a_folder_without_labels(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Draw it: python"):
        labelled_edits.read_edits(tmp_path / "none")
    with pytest.raises(DataError, match="Move its folder away, and draw it: python"):
        labelled_edits.read_edits(tmp_path)
