"""What a reader is told of models and data that do not suit each other."""

import shutil
from dataclasses import replace
from pathlib import Path

from ip2p.evaluation.load import Data, clip_notes, domain_notes, load_storybook
from ip2p.measuring.clip import ClipScorer
from ip2p.models.backbone import load_backbone
from ip2p.models.bundled import bundled_path


def test_an_editor_of_another_world_is_told(editor_folder: Path) -> None:
    photo_editor, storybook_editor = load_backbone(editor_folder), load_backbone("storybook-editor")
    scenes = load_storybook(4, 5, free=False)
    photos = Data("photos", scenes.samples, is_storybook=False)
    (told,) = domain_notes(photo_editor, scenes)
    assert "no model of the storybook world" in told
    assert domain_notes(storybook_editor, scenes) == [] and domain_notes(photo_editor, photos) == []
    strange = [replace(sample, instruction="add an espresso") for sample in scenes.samples]
    (told,) = domain_notes(storybook_editor, Data("photos", strange, is_storybook=False))
    assert "4 of 4 instructions" in told
    (told,) = domain_notes(storybook_editor, scenes, photo_editor)
    assert "draws the baselines, is no model of the storybook world" in told
    strange = [replace(sample, edited_caption="an espresso machine") for sample in scenes.samples]
    (told,) = domain_notes(photo_editor, Data("photos", strange, is_storybook=False), storybook_editor)
    assert "4 of 4 captions" in told and "give another --base" in told
    assert domain_notes(storybook_editor, scenes, storybook_editor) == []


def test_the_clip_that_filtered_is_known_by_its_weights(tmp_path: Path) -> None:
    shutil.copytree(bundled_path("storybook-clip-a"), tmp_path / "renamed")
    scenes = load_storybook(1, 5, free=False)
    (told,) = clip_notes(ClipScorer.from_pretrained(tmp_path / "renamed"), scenes)
    assert "which also filtered the pairs" in told
    assert clip_notes(ClipScorer.from_pretrained("storybook-clip-b"), scenes) == [] == clip_notes(None, scenes)
    photos = Data("photos", scenes.samples, is_storybook=False)
    assert clip_notes(ClipScorer.from_pretrained("storybook-clip-a"), photos) == []
