"""The run: every sample of every method once, faults named and survived, resumed where it was stopped."""

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from ip2p.editing.editor import Editor
from ip2p.errors import ModelError
from ip2p.evaluation import draw as module
from ip2p.evaluation.draw import NO_CAPTIONS, NO_TARGET, plan_work, run_plan
from ip2p.evaluation.measures import Batch, Measured, Measurer
from ip2p.evaluation.methods import Extent, Method, counted_rows, make_methods
from ip2p.evaluation.results import Result, ResultFolder
from ip2p.evaluation.samples import Pictures, Sample, storybook_samples

Run = Callable[..., list[Result]]
MakeSample = Callable[..., Sample]


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_SIZE", 2)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Function that measures a method and returns its results."""

    def run(method: Method, samples: list[Sample], measurer: Measurer | None = None) -> list[Result]:
        folder, plan = ResultFolder(tmp_path / "parts"), plan_work([method], samples, {})
        run_plan(plan, measurer or Measurer(None, None), folder, unets=(), say=lambda _: None)
        return folder.read(method.slug, [work.number for work in plan])

    return run


def test_every_sample_is_measured_once_and_in_order(run: Run, make_sample: MakeSample, targets: Method) -> None:
    found = run(targets, [make_sample(k) for k in range(5)])
    assert [each.sample for each in found] == [f"s-{k}" for k in range(5)]
    assert all(each.figures["iou"] == 1 and each.figures["psnr"] == 60 and not each.fault for each in found)
    copy = run(Method("copy", "copy", lambda batch: [each.source for each in batch.pictures]), [make_sample(1)])
    assert (copy[0].figures["iou"], copy[0].figures["accuracy"]) == (0, 0)


def test_a_fault_of_one_sample_is_its_own(run: Run, make_sample: MakeSample, targets: Method) -> None:
    """Pictures that cannot be read, models that fail in a batch, and measures that cannot be taken."""

    def draw(batch: Batch) -> list[Image.Image]:
        if any(each.name == "s-2" for each in batch.samples):
            raise ModelError("the latents are not finite", "Give fp32")
        return targets.draw(batch)

    def missing() -> Pictures:
        raise OSError("no such file: a.png")

    samples = [make_sample(0, load=missing), *(make_sample(k) for k in range(1, 5))]
    found = run(Method("editor", "editor", draw), samples)
    assert ["s-0", "s-2"] == [each.sample for each in found if each.fault]
    assert "a.png" in found[0].fault and "not finite" in found[2].fault
    assert all(each.figures["iou"] == 1 for each in found if not each.fault)


@pytest.mark.parametrize("place", ["prepare", "measure"])
def test_a_sample_that_cannot_be_measured_fails_alone(
    place: str, run: Run, make_sample: MakeSample, targets: Method
) -> None:
    class Torn(Measurer):
        def prepare(self, samples: Sequence[Sample], pictures: Sequence[Pictures]) -> Batch:
            self.meet("prepare", samples)
            return super().prepare(samples, pictures)

        def measure(self, batch: Batch, edited: Sequence[Image.Image], *, clip_only: bool = False) -> list[Measured]:
            self.meet("measure", batch.samples)
            return super().measure(batch, edited, clip_only=clip_only)

        def meet(self, where: str, samples: Sequence[Sample]) -> None:
            if where == place and any(each.name == "s-1" for each in samples):
                raise ValueError("no numbers")

    found = run(targets, [make_sample(k) for k in range(4)], Torn(None, None))
    assert [bool(each.fault) for each in found] == [False, True, False, False]
    assert "not measured: ValueError: no numbers" in found[1].fault
    assert all(each.figures["iou"] == 1 for each in found if not each.fault)


def test_what_a_sample_lacks_is_told_and_not_drawn(run: Run, make_sample: MakeSample, targets: Method) -> None:
    samples = [make_sample(0, edited_caption="a dark square"), make_sample(1, caption=" "), make_sample(2)]
    needy = Method("sdedit", "sdedit", targets.draw, need="captions")
    assert [each.fault for each in run(needy, samples)] == [NO_CAPTIONS, NO_CAPTIONS, ""]
    blind = make_sample(0, load=lambda: Pictures(make_sample(0).load().source))
    (found,) = run(Method("bound", "bound", targets.draw, need="target"), [blind])
    assert found.fault == NO_TARGET
    (found,) = run(Method("editor", "editor", lambda batch: [each.source for each in batch.pictures]), [blind])
    assert not found.fault and "iou" not in found.figures


def test_what_is_done_is_not_drawn_again(run: Run, make_sample: MakeSample, targets: Method) -> None:
    drawn: list[str] = []

    def draw(batch: Batch) -> list[Image.Image]:
        drawn.extend(each.name for each in batch.samples)
        return targets.draw(batch)

    def method(strength: float) -> Method:
        return Method("editor", "editor", draw, {"strength": strength})

    samples = [make_sample(k) for k in range(6)]
    first = run(method(1), samples[:3])
    assert run(method(1), samples)[:3] == first
    assert drawn == ["s-0", "s-1", "s-2", "s-2", "s-3", "s-4", "s-5"]  # the half batch is drawn again
    run(method(2), samples[:2])
    assert drawn[7:] == ["s-0", "s-1"]


def test_methods_of_few_samples_have_the_first_ones(make_sample: MakeSample, targets: Method) -> None:
    few = Method("few", "sdedit", targets.draw, limit=3)
    plan = plan_work([targets, few], [make_sample(k) for k in range(5)], {})
    assert [(work.method.name, len(work.samples)) for work in plan] == [
        ("exact", 2), ("few", 2), ("exact", 2), ("few", 1), ("exact", 1)
    ]  # fmt: skip
    assert len({work.mark for work in plan}) == len(plan)


def test_rows_of_networks_are_counted() -> None:
    network = nn.Linear(2, 2)
    with counted_rows(network) as rows:
        network(torch.zeros(3, 2))
        network(torch.zeros(4, 2))
    network(torch.zeros(9, 2))
    assert rows() == 7


def test_a_resumed_batch_is_embedded_with_as_many_as_at_first(
    make_sample: MakeSample, targets: Method, tmp_path: Path
) -> None:
    """Embeddings of one picture and of two differ in the last digit, and so would figures of a resumed run."""
    sizes: list[int] = []

    class Counting(Measurer):
        def prepare(self, samples: Sequence[Sample], pictures: Sequence[Pictures]) -> Batch:
            sizes.append(len(samples))
            return super().prepare(samples, pictures)

    short = Method("short", "text", targets.draw, limit=1)
    plan = plan_work([targets, short], [make_sample(k) for k in range(2)], {})
    folder = ResultFolder(tmp_path / "parts")
    run_plan(plan, Counting(None, None), folder, unets=(), say=lambda _: None)
    shutil.rmtree(tmp_path / "parts" / "short")
    run_plan(plan, Counting(None, None), folder, unets=(), say=lambda _: None)
    assert sizes == [2, 2]


def test_the_bound_of_an_editor_that_keeps_unchanged_pixels_keeps_them_too() -> None:
    """Else it would be no bound: an edit of a door would be nearer to its target than the target itself."""
    editor = Editor.from_pretrained("storybook-editor")
    sample = next(each for each in storybook_samples(40, 1) if each.kind == "door")
    batch = Measurer(None, None).prepare([sample], [sample.load()])
    found = {}
    for keeps in (False, True):
        own = {**editor.backbone.own_settings, "keep_unchanged": keeps}
        editor.backbone = dataclasses.replace(editor.backbone, own_settings=own)
        (bound,) = make_methods(editor, None, Extent(("bound",)), batch=1)
        assert bound.settings["keep_unchanged"] is keeps
        found[keeps] = Measurer(None, None).measure(batch, bound.draw(batch))[0].figures
    assert found[True]["iou"] > 2 * found[False]["iou"] and found[True]["kept"] > 0.95 > found[False]["kept"]
