"""What moved unasked, against what the judge misreads of exact targets."""

from ip2p.evaluation.changes import moved_attributes
from ip2p.evaluation.results import Result
from ip2p.evaluation.samples import Sample, storybook_samples
from ip2p.storybook.scene import ATTRIBUTES


def read(sample: Sample, **wrong: str) -> Result:
    """The result of a perfect edit, but for some attributes."""
    assert sample.case
    return Result(sample.name, sample.kind, figures={}, read=sample.case.target.attributes | wrong)


def test_only_what_was_not_asked_for_counts() -> None:
    samples = storybook_samples(28, 3)
    exact = [read(sample) for sample in samples]
    matrix = moved_attributes(samples, exact, exact)
    assert set(matrix) == {sample.kind for sample in samples}
    assert all(moved.share == 0 and moved.floor == 0 for row in matrix.values() for moved in row.values())
    edited = {sample.kind: sample.case.edit.attribute for sample in samples if sample.case}
    assert all(edited[kind] not in row and len(row) == len(ATTRIBUTES) - 1 for kind, row in matrix.items())


def test_shares_are_of_the_edits_of_a_kind() -> None:
    samples = [sample for sample in storybook_samples(60, 3) if sample.kind == "season"][:4]
    results = [read(samples[0], style="unclear"), *(read(sample) for sample in samples[1:])]
    floor = [*(read(sample) for sample in samples[:3]), read(samples[3], place="unclear")]
    row = moved_attributes(samples, results, floor)["season"]
    assert (row["style"].share, row["style"].floor, row["style"].edits) == (0.25, 0, 4)
    assert (row["place"].share, row["place"].floor) == (0, 0.25)
    unknown = moved_attributes(samples, results[:1])["season"]["style"]
    assert (unknown.share, unknown.floor) == (1, None), "no floor was measured"
    assert moved_attributes(samples, [Result("s", "season", "failed")]) == {}
