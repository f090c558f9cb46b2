"""The best editor of a run is whole or absent, and a run that resumes has the one of its checkpoint."""

import json
from pathlib import Path

import pytest

from ip2p.shards import atomic_dir
from ip2p.train.best import Best
from ip2p.train.held_out import Point


def save(folder: Path, extra: dict[str, str]) -> None:
    with atomic_dir(folder) as work:
        for name, text in extra.items():
            (work / name).write_text(text)


class Killed(BaseException):
    """Stands for SIGKILL: no code catches it."""


def test_the_best_is_replaced(tmp_path: Path) -> None:
    best = Best(tmp_path, step=0)
    assert best.point is None
    for point in (Point(10, 0.5), Point(20, 0.4)):
        best.replace(point, save)
        assert best.point == point == Best(tmp_path, step=20).point


def test_a_run_that_resumes_has_the_best_as_of_its_checkpoint(tmp_path: Path) -> None:
    best = Best(tmp_path, step=0)
    best.replace(Point(10, 0.5), save)
    best.checkpointed(10)
    for step in (20, 30):
        best.replace(Point(step, 0.5 - step / 100), save)
    assert Best(tmp_path, step=10).point == Point(10, 0.5)  # killed, and back at the checkpoint
    assert Best(tmp_path, step=0).point is None
    assert not any(tmp_path.iterdir())


def test_after_a_checkpoint_there_is_one_best_only(tmp_path: Path) -> None:
    best = Best(tmp_path, step=0)
    best.replace(Point(10, 0.5), save)
    best.checkpointed(10)
    best.replace(Point(20, 0.4), save)
    best.checkpointed(20)
    assert [path.name for path in tmp_path.iterdir()] == [best.folder.name]


def test_the_best_by_other_pairs_is_set_aside(tmp_path: Path) -> None:
    best = Best(tmp_path, step=0)
    best.replace(Point(10, 0.5), save)
    best.checkpointed(10)
    aside = best.set_aside()
    assert best.point is None and json.loads((aside / "held_out.json").read_text())["step"] == 10
    best.replace(Point(20, 0.9), save)
    assert Best(tmp_path, step=20).point == Point(20, 0.9) and aside.is_dir()


@pytest.mark.parametrize("broken", ["rename", "rmtree"])
def test_a_kill_at_any_rename_or_removal_leaves_the_best_of_the_checkpoint(
    tmp_path: Path, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for deadly in range(9):
        out = tmp_path / str(deadly)
        out.mkdir()
        best = Best(out, step=0)
        best.replace(Point(10, 0.5), save)
        best.checkpointed(10)
        best.replace(Point(20, 0.4), save)
        calls = iter(range(99))

        def dies(
            *arguments: object, real: object, at: int = deadly, calls: object = calls, **options: object
        ) -> object:
            if next(calls) == at:  # type: ignore[call-overload]
                raise Killed
            return real(*arguments, **options)  # type: ignore[operator]

        with monkeypatch.context() as patch:
            name = "pathlib.Path.rename" if broken == "rename" else "shutil.rmtree"
            real = Path.rename if broken == "rename" else __import__("shutil").rmtree
            patch.setattr(name, lambda *arguments, real=real, **options: dies(*arguments, real=real, **options))
            try:
                best.replace(Point(30, 0.3), save)
                Best(out, step=10).replace(Point(20, 0.4), save)
            except Killed:
                pass
        assert Best(out, step=10).point == Point(10, 0.5)
