"""The page of an evaluation."""

from collections.abc import Callable

from PIL import Image

from ip2p.errors import DataError
from ip2p.evaluation.methods import EDITOR
from ip2p.evaluation.page import render_evaluation
from ip2p.evaluation.report import Evaluation
from ip2p.evaluation.results import Result, encode_picture
from ip2p.evaluation.samples import Pictures, Sample
from ip2p.evaluation.scores import score_methods


def test_a_page_is_written_without_an_input_that_is_gone_by_then(make_sample: Callable[..., Sample]) -> None:
    def gone() -> Pictures:
        raise DataError("there is no a.png", "Put it back")

    result = Result("s-0", "dark", figures={"iou": 0.5}, picture=encode_picture(Image.new("RGB", (32, 32))))
    evaluation = Evaluation(
        about={"editor": "an-editor", "data": "pictures", "seed": 1}, samples={"s-0": "dark"}, methods={},
        scores=score_methods({EDITOR: [result]}, 0),
    )  # fmt: skip
    counts = [
        render_evaluation(evaluation, [sample], {EDITOR: [result]}).count("data:image/")
        for sample in (make_sample(0), make_sample(0, load=gone))
    ]
    assert counts == [3, 1]
