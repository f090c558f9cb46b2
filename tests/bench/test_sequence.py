"""What `bench/sequence.py` measures: what is left of things that were removed."""

from sequence import Story, make_story, removed_pixels, unchanged_psnr

from ip2p.storybook.render import render


def story_with_removal() -> Story:
    """The first story that removes something before its last edit."""
    stories = (make_story(number, 8) for number in range(20))
    return next(story for story in stories if any(edit.kind.startswith("remove") for edit in story.edits[:-1]))


def removal_of(story: Story) -> int:
    """The number of the first edit that removes something."""
    return next(number for number, edit in enumerate(story.edits) if edit.kind.startswith("remove"))


def test_exact_removals_leave_nothing_and_undone_ones_everything() -> None:
    story = story_with_removal()
    exact = [render(scene) for scene in story.scenes[1:]]
    assert all(each.at_once == 1.0 and each.later in (None, 1.0) for each in removed_pixels(story, exact))
    number = removal_of(story)
    undone = [*exact[:number], render(story.scenes[number]), *exact[number + 1 :]]
    assert removed_pixels(story, undone)[0].at_once == 0.0


def test_what_a_later_edit_leaves_is_counted_later_and_only_where_there_is_one() -> None:
    story = story_with_removal()
    exact = [render(scene) for scene in story.scenes[1:]]
    number = removal_of(story)
    back_again = [*exact[: number + 1], *[render(story.scenes[number])] * (len(exact) - number - 1)]
    at_once, later = removed_pixels(story, back_again)[0]
    assert at_once == 1.0 and later is not None and later < 0.5
    ended = Story(story.edits[: number + 1], story.instructions[: number + 1], story.scenes[: number + 2])
    assert removed_pixels(ended, exact)[-1].later is None


def test_exact_pictures_have_the_highest_psnr_where_nothing_was_to_change() -> None:
    story = make_story(0, 3)
    renders = [render(scene) for scene in story.scenes]
    assert unchanged_psnr(renders[-1], renders) > 45
    assert unchanged_psnr(renders[-1].point(lambda value: 255 - value), renders) < 20
