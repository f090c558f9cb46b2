"""Meanings of the reasons of refusals, for readers of the reports."""

from ip2p.data_gen.pairs.filter import BOUNDS
from ip2p.records import Reason

MEANINGS = {
    Reason.NO_RULE: "the writer has no edit for the caption",
    Reason.BAD_REPLY: "the reply has no edit that can be read",
    Reason.CUT_OFF: "the reply ends before the edit does",
    Reason.WRITER_REFUSED: "the language model would not write",
    Reason.WRITER_ERROR: "the server did not answer",
    Reason.EMPTY: "a text has no words",
    Reason.UNCHANGED: "the edited caption is the caption",
    Reason.NEAR_UNCHANGED: "both captions differ in order, forms or function words only",
    Reason.IS_CAPTION: "the instruction repeats a caption",
    Reason.DRIFT: "the edit keeps too little of the caption",
    Reason.TOO_LONG: "a text is too long",
    Reason.WRONG_LANGUAGE: "a text is not English",
    Reason.DUPLICATE: "the same as an earlier triple, but for function words and marks",
    Reason.NEAR_DUPLICATE: "much like an earlier triple",
    Reason.UNGRAMMATICAL: "the edited caption is broken or cut off",
    Reason.DISAGREES: "the edited caption shows another edit than the instruction asks for",
    Reason.MODERATED: "a text is improper",
    Reason.KIND_FULL: "there are enough edits of its kind",
    Reason.UNSAFE: "the model's safety checker blocked a picture",
    Reason.REJECTED_EARLY: "given up while it was drawn",
    Reason.NOT_JUDGED: "the judge gave it no marks",
    Reason.NOT_TOP_K: "passes, but better ones of its triple are kept",
    Reason.NEAR_COPY: "both pictures are near copies of those of another pair",
    Reason.NO_INVERSE: "no instruction undoes the edit",
    Reason.NOT_STORED: "passes, but its pictures were not stored",
} | {
    bound.reason: f"{bound.score.removeprefix('sim_')} is {'below' if bound.is_least else 'above'} its threshold"
    for bound in BOUNDS.values()
}  # fmt: skip
"""Meaning of each reason, in a few words."""
