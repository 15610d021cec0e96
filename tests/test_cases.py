"""Each patient of tests/cases is screened, and every answer that his story expects is compared."""

from __future__ import annotations

import pytest

from stories import TRUTHS, Story, differences, stories

ALL = list(stories())


@pytest.mark.parametrize("story", ALL, ids=lambda story: story.name)
def test_the_story_comes_out_as_told(story: Story) -> None:
    assert differences(story) == []


FEWEST = 1500


def test_no_two_stories_have_one_name() -> None:
    names = [story.name for story in ALL]
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_hundreds_of_expectations_are_compared() -> None:
    """A folder that is not found, or a loop that runs over nothing, must not look like success."""
    assert sum(len(story.expect) for story in ALL) >= FEWEST


def test_expected_truths_are_words_that_exist() -> None:
    said = {
        str(wanted.get("truth", "true") if isinstance(wanted, dict) else wanted).lower()
        for story in ALL
        for key, wanted in story.expect.items()
        if key not in ("verdict", "population", "blocked_by")
    }
    assert said - TRUTHS == set()
