"""The stories of tests/cases: how a file becomes patients with expectations, and where an answer differs from them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import yaml

import chart
from fhir_screen.core.decision import AtomResult, CriterionResult, Decision
from fhir_screen.core.facts import PatientRecord
from fhir_screen.core.screening import screen
from fhir_screen.core.trials import Trial
from fhir_screen.core.truth import text_of
from fhir_screen.fhir.assemble import assemble
from fhir_screen.fhir.raw import Damage, Found, Haul
from fhir_screen.fhir.reader import read
from fhir_screen.mapping.load import Study, load

CASES = Path(__file__).parent / "cases"
SITES = "sites"
TRUTHS = frozenset({"true", "false", "unknown", "not-applicable"})

OLD_VISIT = {"encounter": "first visit", "on": "2018-03-05", "id": "first-visit"}
MELANOMA = {"diagnosis": "Malignant melanoma of skin", "code": "SCT 93655004", "since": "2023-02-20", "id": "melanoma"}

_STORY_KEYS = frozenset(
    [
        "story",
        "because",
        "trial",
        "trials",
        "on",
        "patient",
        "anchors",
        "set",
        "site",
        "chart",
        "incomplete",
        "given",
        "expect",
        "variants",
    ]
)
_VARIANT_KEYS = frozenset(["when", "on", "patient", "anchors", "set", "site", "chart", "incomplete", "given", "expect"])
_EXPECTED_KEYS = frozenset(["truth", "reason", "flags", "without", "kind", "changes_on", "effect"])


class StoryError(ValueError):
    """A story that is not written as the manual says."""


class _Loader(yaml.CSafeLoader):
    """Numbers, true, false and null are what JSON says they are; "on", "yes", dates and 1e3 are text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if doubled := sorted({key for key in keys if keys.count(key) > 1}):
            raise yaml.constructor.ConstructorError(None, None, f"twice: {', '.join(doubled)}", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("tag:yaml.org,2002:bool", r"true|false", "tf"),
    ("tag:yaml.org,2002:null", r"null|", ["n", ""]),
    ("tag:yaml.org,2002:int", r"-?(?:0|[1-9]\d*)", "-0123456789"),
    ("tag:yaml.org,2002:float", r"-?\d+\.\d+", "-0123456789"),
):
    _Loader.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern})$"), list(_first))


@dataclass(frozen=True, slots=True)
class Story:
    """One patient on one day, and what must come out."""

    file: str
    when: str
    trials: tuple[str, ...]
    on: date
    person: Mapping[str, Any]
    anchors: Mapping[str, date]
    settings: Mapping[str, str]
    site: Path | None
    given: tuple[Mapping[str, Any], ...]
    incomplete: tuple[str, ...]
    expect: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"{self.file}: {self.when}" if self.when else self.file


def stories(folder: Path = CASES) -> Iterator[Story]:
    for path in sorted(folder.rglob("*.yaml")):
        if path.parent.name != SITES:
            yield from _stories_of(path, path.relative_to(folder).with_suffix("").as_posix())


def _stories_of(path: Path, file: str) -> Iterator[Story]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except yaml.YAMLError as error:
        raise StoryError(f"{file}: {error}") from error
    _only(file, content, _STORY_KEYS)
    for needed in ("story", "because", "on"):
        if not content.get(needed):
            raise StoryError(f"{file}: `{needed}` is missing")
    if not content.get("variants") and not content.get("expect"):
        raise StoryError(f"{file}: nothing is expected")
    if content.get("expect"):
        yield _story(file, content, {})
    for variant in content.get("variants") or []:
        _only(file, variant, _VARIANT_KEYS)
        if not variant.get("when") or not variant.get("expect"):
            raise StoryError(f"{file}: each variant says `when` and `expect`")
        yield _story(file, content, variant)


def _only(file: str, content: Mapping[str, Any], known: frozenset[str]) -> None:
    if unknown := sorted(set(content) - known):
        raise StoryError(f"{file}: unknown {', '.join(unknown)}; known: {', '.join(sorted(known))}")


def _story(file: str, story: Mapping[str, Any], variant: Mapping[str, Any]) -> Story:
    def merged(key: str) -> dict[str, Any]:
        return {**(story.get(key) or {}), **(variant.get(key) or {})}

    bare = (variant.get("chart") or story.get("chart")) == "bare"
    usual = [] if bare else [OLD_VISIT, MELANOMA]
    given = [*usual, *(story.get("given") or []), *(variant.get("given") or [])]
    trials = story.get("trials") or [story.get("trial")]
    if trials == [None]:
        raise StoryError(f"{file}: `trial` is missing")
    return Story(
        file, variant.get("when", ""), tuple(trials), date.fromisoformat(str(variant.get("on") or story["on"])),
        merged("patient"), {name: date.fromisoformat(day) for name, day in merged("anchors").items()},
        {name: text_of_setting(value) for name, value in merged("set").items()},
        CASES / SITES / f"{site}.yaml" if (site := variant.get("site") or story.get("site")) else None, tuple(given),
        tuple(variant.get("incomplete") or story.get("incomplete") or ()),
        variant.get("expect") or story["expect"],
    )  # fmt: skip


def text_of_setting(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@cache
def _study(settings: tuple[tuple[str, str], ...], site: Path | None) -> Study:
    return load(None, site, (), dict(settings))


def study_of(story: Story) -> Study:
    return _study(tuple(sorted(story.settings.items())), story.site)


def record_of(story: Story, study: Study, trial: Trial) -> PatientRecord:
    haul = Haul([Found(one) for one in [chart.patient(story.person), *chart.resources(story.given)]])
    haul.damage += [Damage(f"{kind} could not be read", kind) for kind in story.incomplete]
    people, _ = assemble(haul)
    (person,) = people
    return read(person, study.shapes, study.terms, study.zone(trial))


def decisions(story: Story, on: date | None = None) -> Iterator[Decision]:
    """What the engine says about the story's patient, on its day or on another."""
    study = study_of(story)
    for trial in study.trials:
        if trial.id in story.trials:
            record = record_of(story, study, trial)
            yield screen(trial, record, study.terms.vocabulary, on or story.on, story.anchors)


# Comparing


def differences(story: Story) -> list[str]:
    """Each expectation that was not met, in one line; empty where all were."""
    return compared(story, list(decisions(story)))


def compared(story: Story, today: list[Decision]) -> list[str]:
    """The same, of decisions that are there already."""
    found = [line for key, wanted in story.expect.items() for line in _differences(today, key, wanted)]
    return found + [line for key, day in _turning_days(story) for line in _not_turning(story, today, key, day)]


def _differences(today: list[Decision], key: str, wanted: Any) -> Iterator[str]:
    if key in ("verdict", "population", "blocked_by"):
        yield from _overall(today, key, wanted)
        return
    result = _results(today).get(key)
    if result is None:
        yield f"{key}: no such atom or criterion"
        return
    said = _said(wanted)
    answer = result.answer
    got: dict[str, Any] = {
        "truth": text_of(answer.truth),
        "reason": str(answer.reason) if answer.reason else "none",
        "kind": str(answer.kind) if answer.kind else "none",
        "effect": str(getattr(result, "effect", "none")),
        "changes_on": str(getattr(result, "changes_on", None) or "none"),
    }
    for name, value in said.items():
        if name == "flags":
            if missing := sorted(set(value) - answer.flags):
                yield f"{key}: flags {missing} are missing from {sorted(answer.flags)} ({answer.because})"
        elif name == "without":
            if present := sorted(set(value) & answer.flags):
                yield f"{key}: flags {present} are not wanted ({answer.because})"
        elif got[name] != value:
            yield f"{key}: {name} is {got[name]}, not {value} ({answer.reason}, {answer.because})"


def _said(wanted: Any) -> dict[str, Any]:
    """An expectation in full: "true" alone is the truth; true and false may stand without quotes."""
    said = dict(wanted) if isinstance(wanted, Mapping) else {"truth": wanted}
    if unknown := sorted(set(said) - _EXPECTED_KEYS):
        raise StoryError(f"nothing called {', '.join(unknown)} can be expected")
    return {k: v if k in ("flags", "without") else text_of_setting(v) for k, v in said.items()}


def truth_of(wanted: Any) -> str | None:
    """The truth that an expectation names, if it names one."""
    return _said(wanted).get("truth") if not isinstance(wanted, Mapping) or set(wanted) <= _EXPECTED_KEYS else None


def _overall(today: list[Decision], key: str, wanted: Any) -> Iterator[str]:
    for decision in today:
        value = wanted.get(decision.trial.id) if isinstance(wanted, Mapping) else wanted
        got = {
            "verdict": decision.verdict.value,
            "population": text_of(decision.population),
            "blocked_by": decision.blocked_by,
        }
        if value is not None and text_of_setting(got[key] or "none") != text_of_setting(value):
            yield f"{key}: {decision.trial.id} is {got[key]}, not {value}"


def _results(today: list[Decision]) -> dict[str, AtomResult | CriterionResult]:
    found: dict[str, AtomResult | CriterionResult] = {}
    for decision in today:
        for criterion in decision.criteria:
            found[criterion.id] = criterion
            found |= {atom.id: atom for atom in criterion.atoms}
            if [atom.id for atom in criterion.atoms] == [criterion.id]:
                found[criterion.id] = _Single(criterion.atoms[0], criterion)  # type: ignore[assignment]
    return found


class _Single:
    """A criterion that is one atom of the same id: it answers for both."""

    def __init__(self, atom: AtomResult, criterion: CriterionResult) -> None:
        self.answer, self.changes_on, self.effect = atom.answer, atom.changes_on, criterion.effect


def _turning_days(story: Story) -> Iterator[tuple[str, date]]:
    for key, wanted in story.expect.items():
        day = wanted.get("changes_on", "none") if isinstance(wanted, Mapping) else "none"
        if day not in ("none", None):
            yield key, date.fromisoformat(day)


def _not_turning(story: Story, today: list[Decision], key: str, day: date) -> Iterator[str]:
    """A promised day of change is kept: the same truth until the day before, another one on the day."""
    if key not in _results(today):
        return
    now = _results(today)[key].answer.truth
    before, then = (_results(list(decisions(story, on)))[key].answer.truth for on in (day - timedelta(days=1), day))
    if before is not now:
        yield f"{key}: it changes to {text_of(before)} already before {day}"
    if then is now:
        yield f"{key}: it is still {text_of(then)} on {day}"
