"""What `edit` does around an edit: which CLIP chooses among samples, and pictures written on the way."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ip2p.cli.options import BUNDLED_EDITOR, say, write
from ip2p.errors import ConfigError, InstructionError

if TYPE_CHECKING:
    from PIL.Image import Image

    from ip2p.editor import Edited
    from ip2p.previews import Previews

BUNDLED_CLIP = "storybook-clip-a"


def chosen_clip(model: str, clip: str | None, samples: int) -> str:
    """The CLIP that chooses: as told, or the bundled one for the bundled editor.

    Raises:
        ConfigError: there is nothing to choose from, or no CLIP that fits the model is known.
    """
    if samples < 2:
        raise ConfigError("--keep-best has one sample to choose from", "Give --samples 2 or more")
    if clip is None and model != BUNDLED_EDITOR:
        raise ConfigError(
            f"--keep-best has no CLIP to judge pictures of {model} by",
            f"Give --clip openai/clip-vit-large-patch14 for photos, or {BUNDLED_CLIP} for storybook scenes",
        )
    return clip or BUNDLED_CLIP


def both(caption: str | None, edited_caption: str | None) -> tuple[str, str] | None:
    """Captions before and after; None if not given.

    Raises:
        InstructionError: one of them alone, an empty one, or two that say the same.
    """
    if caption is None and edited_caption is None:
        return None
    if not (caption or "").strip() or not (edited_caption or "").strip():
        raise InstructionError("one of --caption and --edited-caption is missing", "Give both, or none")
    assert caption and edited_caption
    if caption.split() == edited_caption.split():
        raise InstructionError(f"both captions are {caption!r}", "Say in the edited one what is different")
    return caption, edited_caption


def best_of(
    edits: "Sequence[Edited]", source: "Image", instruction: str, captions: tuple[str, str] | None, clip: str
) -> "Edited":
    """The edit with the best directional score; the scores of all are told, and the way of scoring."""
    from ip2p.ranking import best, direction_scores
    from ip2p.similarity import ClipScorer

    scorer = ClipScorer.from_pretrained(clip)
    scores = direction_scores(scorer, source, [edit.image for edit in edits], instruction, captions)
    kept = best(scores)
    by = "the direction from caption to edited caption" if captions else "the instruction as direction"
    say(f"keeping the best of {len(edits)} by {clip}, {by}")
    if not captions:
        say("captions tell more than the instruction: give --caption and --edited-caption if you can")
    for place, (edit, score) in enumerate(zip(edits, scores, strict=True)):
        say(f"seed {edit.seed}: {score:+.3f}{'  kept' if place == kept else ''}")
    return edits[kept]


def progress_writer(
    paths: Sequence[Path], seeds: Sequence[int], texts: Sequence[str], every: int
) -> "tuple[Callable[[int], Previews], Callable[[int, list[Image]], None]]":
    """What writes the predicted picture of every n-th step of a turn, and the picture after each turn but the last."""
    from ip2p.previews import Previews
    from ip2p.saving import EDITED

    def name(path: Path, turn: int) -> str:
        return path.stem if len(texts) == 1 else f"{path.stem}-turn{turn}"

    def watch(turn: int) -> Previews:
        def show(place: int, step: int, picture: "Image") -> None:
            path, told = paths[place], {"instruction": texts[turn - 1], "seed": seeds[place], "step": step}
            write(picture, path.with_stem(f"{name(path, turn)}-step{step:03d}"), told, EDITED)

        return Previews(every, show)

    def on_turn(turn: int, pictures: "list[Image]") -> None:
        for path, seed, picture in zip(paths, seeds, pictures, strict=True):
            if turn < len(texts):
                told = {"instruction": texts[turn - 1], "seed": seed, "turn": turn}
                write(picture, path.with_stem(name(path, turn)), told, EDITED)

    return watch, on_turn
