"""The next trial needs only YAML: a study of another field, with its own concepts and units, and no line of Python."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from datetime import date
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
import yaml

from chart import patient, resources
from fhir_screen.core.answers import Answer
from fhir_screen.core.decision import Decision
from fhir_screen.core.screening import screen
from fhir_screen.core.truth import Reason, Truth, text_of
from fhir_screen.fhir.raw import RawPatient
from fhir_screen.fhir.reader import read
from fhir_screen.mapping.load import Study, load, packaged_mappings

HERE = Path(__file__).parent / "third_trial"
BOOK: dict[str, Any] = yaml.load((HERE / "stories.yaml").read_text(encoding="utf-8"), yaml.BaseLoader)
STORIES: list[dict[str, Any]] = BOOK["stories"]


@cache
def mappings() -> Path:
    """The folder of the study, beside the shapes of FHIR that every study shares."""
    folder = Path(mkdtemp()) / "mappings"
    shutil.copytree(HERE, folder)
    shutil.copy(packaged_mappings() / "resources.yaml", folder)
    return folder


@cache
def study(settings: tuple[tuple[str, str], ...] = ()) -> Study:
    return load(mappings(), settings=dict(settings))


def screened(story: Mapping[str, Any]) -> Decision:
    dropped = story.get("drop", [])
    given = [line for line in BOOK["usual"] if line.get("id") not in dropped] + story.get("given", [])
    found = study(tuple(sorted(story.get("set", {}).items())))
    raw = RawPatient("p1", patient(story.get("patient", BOOK["patient"])), tuple(resources(given)), lambda *_: None)
    trial = found.trials[0]
    anchors = {name: date.fromisoformat(day) for name, day in story.get("anchors", {}).items()}
    record = read(raw, found.shapes, found.terms, trial.zone)
    return screen(trial, record, found.terms.vocabulary, date.fromisoformat(BOOK["on"]), anchors)


def answers(decision: Decision) -> dict[str, Answer]:
    atoms = {atom.id: atom.answer for criterion in decision.criteria for atom in criterion.atoms}
    return {**{criterion.id: criterion.answer for criterion in decision.criteria}, **atoms}


def told(answer: Answer, expected: str) -> str:
    """The truth; for an unknown its reason, where the story names one."""
    return str(answer.reason) if answer.truth is Truth.UNKNOWN and expected in list(Reason) else text_of(answer.truth)


@pytest.mark.parametrize("story", STORIES, ids=[re.sub(r"\W+", "-", s["story"]) for s in STORIES])
def test_a_patient_of_the_third_trial_is_judged_as_his_story_says(story: dict[str, Any]) -> None:
    decision = screened(story)
    found = answers(decision)
    expected = dict(story["expect"])
    verdict = expected.pop("verdict", decision.verdict.value)
    assert {key: told(found[key], want) for key, want in expected.items()} == expected
    assert decision.verdict.value == verdict
    for atom, text in story.get("because", {}).items():
        assert text in found[atom].because
    days = {a.id: a.changes_on.isoformat() for c in decision.criteria for a in c.atoms if a.changes_on}
    for atom, day in story.get("changes_on", {}).items():
        assert days[atom] == day


def test_the_study_has_twelve_criteria_and_every_truth_of_each_automatic_atom_is_told_somewhere() -> None:
    trial = study().trials[0]
    assert len(trial.criteria) == 12
    seen: dict[str, set[str]] = {}
    for story in STORIES:
        for key, answer in answers(screened(story)).items():
            seen.setdefault(key, set()).add(text_of(answer.truth))
    silent = {criterion.id: seen[criterion.id] for criterion in trial.criteria if len(seen[criterion.id]) < 2}
    assert silent == {}


def test_the_third_trial_is_yaml_alone() -> None:
    """It brings its own systems, codes, analytes, units and words; only the shapes of FHIR are shared."""
    assert {path.name for path in HERE.iterdir()} == {
        "analytes.yaml", "concepts", "stories.yaml", "systems.yaml", "trials", "units.yaml", "words.yaml"
    }  # fmt: skip
    assert not list(HERE.rglob("*.py"))
