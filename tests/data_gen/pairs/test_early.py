"""Early rejection: what is far below a threshold, except for the share that is audited."""

from pathlib import Path

import pytest
from PIL import Image

from ip2p.data_gen.config import FilterConfig, PairsConfig
from ip2p.data_gen.pairs.draw import plan_candidates
from ip2p.data_gen.pairs.early import EarlyRejection
from ip2p.data_gen.pairs.scores import Scorers, score_candidates
from ip2p.measuring.clip import ClipScorer
from ip2p.records import AUDIT, Triple, in_share

NO_BOUNDS = {"source": -1, "edited": -1, "image": -1, "direction": -1}


@pytest.mark.parametrize("score", ["source", "edited", "direction"])
def test_a_margin_below_a_threshold_is_hopeless(clip_folder: Path, score: str) -> None:
    triple = Triple(
        id="t", caption_id="c", caption="a barn", instruction="make it a castle", edited_caption="a castle",
        kind="building", writer="rules",
    )  # fmt: skip
    settings = PairsConfig(candidates=12, early_margin=0.2, early_audit=0.25)
    planned, scorer = plan_candidates([triple], settings, 1), Scorers(ClipScorer.from_pretrained(clip_folder))
    pictures = [
        (Image.new("RGB", (32, 32), (20 * number, 90, 200)), Image.new("RGB", (32, 32), (200, 20 * number, 0)))
        for number in range(len(planned))
    ]
    values = [
        getattr(each, f"sim_{score}")
        for each in score_candidates([each.candidate for each in planned], pictures, [triple] * 12, scorer)
    ]
    middle = sum(sorted(values)[5:7]) / 2
    early = EarlyRejection(
        {"t": triple}, settings, FilterConfig.model_validate(NO_BOUNDS | {score: middle + 0.2}), scorer
    )
    dropped = early(planned, pictures)
    ids = [each.candidate.id for each in planned]
    hopeless = [value < middle for value in values]
    assert [early.verdicts[each] == "hopeless" for each in ids] == hopeless and 0 < sum(hopeless) < 12
    assert dropped == [bad and not in_share(each, 0.25, AUDIT) for bad, each in zip(hopeless, ids, strict=True)]
