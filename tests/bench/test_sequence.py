"""What `bench/sequence.py` measures: what is left of things that were removed."""

from sequence import Removed, Story, make_story, removed_pixels, unchanged_psnr

from ip2p.storybook.render import render


def story_with_removal() -> Story:
    """The first story that removes something before its last edit."""
    stories = (make_story(number, 8) for number in range(20))
    return next(story for story in stories if any(edit.kind.startswith("remove") for edit in story.edits[:-1]))


def test_exact_removals_leave_nothing_and_undone_ones_everything() -> None:
    story = story_with_removal()
    exact = [render(scene) for scene in story.scenes[1:]]
    found = removed_pixels(story, exact)
    assert found and all(each == Removed(1.0, 1.0) for each in found)
    never_edited = [render(story.scenes[0])] * len(story.edits)
    assert removed_pixels(story, never_edited) != found


def test_a_smear_that_a_later_edit_leaves_is_counted_later() -> None:
    story = story_with_removal()
    exact = [render(scene) for scene in story.scenes[1:]]
    number = next(number for number, edit in enumerate(story.edits) if edit.kind.startswith("remove"))
    back_again = [*exact[: number + 1], *[render(story.scenes[number])] * (len(exact) - number - 1)]
    at_once, later = removed_pixels(story, back_again)[0]
    assert at_once == 1.0 and later < 0.5


def test_exact_pictures_have_the_highest_psnr_where_nothing_was_to_change() -> None:
    story = make_story(0, 3)
    renders = [render(scene) for scene in story.scenes]
    assert unchanged_psnr(renders[-1], renders) > 45
    assert unchanged_psnr(renders[-1].point(lambda value: 255 - value), renders) < 20
