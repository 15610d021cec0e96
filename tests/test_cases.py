"""Each patient of tests/cases is screened, and every answer that his story expects is compared."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stories import TRUTHS, Story, compared, decisions, stories

ALL = list(stories())

CLINICAL = Path(__file__).parents[1] / "docs" / "clinical.md"
_ROWS = re.findall(
    r"^\| (`[a-z_0-9`, ]+) \|", CLINICAL.read_text(encoding="utf-8").partition("### What the flags say")[2], re.M
)
EXPLAINED = {name for row in _ROWS for name in re.findall(r"`([a-z_0-9]+)`", row)}
"""The flags that the page for clinicians explains."""


@pytest.mark.parametrize("story", ALL, ids=lambda story: story.name)
def test_the_story_comes_out_as_told(story: Story) -> None:
    today = list(decisions(story))
    assert compared(story, today) == []
    raised = {flag.partition("=")[0] for one in today for c in one.criteria for atom in c.atoms for flag in atom.flags}
    assert sorted(raised - EXPLAINED) == []


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
