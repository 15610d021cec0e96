"""What the compiled trials assume where the record is silent; writes the tables of docs/clinical.md."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from fhir_screen.core.answers import EvidenceKind
from fhir_screen.core.codes import Code
from fhir_screen.core.dates import Period, Span
from fhir_screen.core.decision import AtomClass, AtomResult, Decision
from fhir_screen.core.facts import Coding, Fact, PatientRecord, Person
from fhir_screen.core.gaps import Gap
from fhir_screen.core.screening import screen
from fhir_screen.core.trials import Trial
from fhir_screen.core.truth import text_of
from fhir_screen.mapping.load import Study, load

PAGE = Path(__file__).parents[1] / "docs" / "clinical.md"
DAY = date(2025, 11, 15)

_TRUTH = {"true": "yes", "false": "no", "unknown": "unknown", "not-applicable": "does not apply"}
_KIND = {
    EvidenceKind.NO_EVIDENCE: "silence taken for a no",
    EvidenceKind.POSITIVE: "",
}


def written(page: str, study: Study) -> str:
    """The page with every generated table in it as it is today."""
    for trial in study.trials:
        page = _between(page, f"silence {trial.id}", _silence(trial, study))
        page = _between(page, f"questions {trial.id}", _questions(trial))
    return page


def _between(page: str, name: str, lines: Iterator[str]) -> str:
    start, end = f"<!-- generated: {name} -->\n", f"<!-- end: {name} -->"
    before, found, rest = page.partition(start)
    if not found or end not in rest:
        raise ValueError(f"docs/clinical.md has no place for {name}")
    return before + start + "\n".join(lines) + "\n" + end + rest.partition(end)[2]


def silent(study: Study, trial: Trial, *gaps: Gap) -> Decision:
    """A chart with one visit and nothing else: no birth date, no sex, no diagnosis, no result."""
    on = Period.at(Span.on(date(2015, 1, 1)))
    visit = Fact("Encounter", "Encounter/e1", codings=(Coding(Code(None, "visit"), conclusive=True),), period=on)
    return screen(trial, PatientRecord.of("silent", Person(), (visit,), gaps), study.terms.vocabulary, DAY)


def _silence(trial: Trial, study: Study) -> Iterator[str]:
    yield "| atom | protocol | nothing on record means | because |"
    yield "|---|---|---|---|"
    for criterion in silent(study, trial).criteria:
        for atom in criterion.atoms:
            if atom.atom_class is not AtomClass.MANUAL:
                yield _row(atom.id + _proxy(atom), atom.text, _means(atom), atom.answer.because)


def _proxy(atom: AtomResult) -> str:
    return " (proxy)" if atom.atom_class is AtomClass.PROXY else ""


def _means(atom: AtomResult) -> str:
    answer = atom.answer
    said = f"**{_TRUTH[text_of(answer.truth)]}**"
    detail = str(answer.reason) if answer.reason else _KIND.get(answer.kind, str(answer.kind)) if answer.kind else ""
    return f"{said}, {detail}" if detail else said


def _questions(trial: Trial) -> Iterator[str]:
    yield "| atom | asked of a person | asked when |"
    yield "|---|---|---|"
    for criterion in trial.criteria:
        for atom in criterion.atoms:
            if atom.atom_class is AtomClass.MANUAL:
                yield _row(atom.id, atom.question, "its condition is true" if atom.asked_when else "always")


def _row(*cells: str) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "/") for cell in cells) + " |"


def main() -> None:
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), load()), encoding="utf-8")
    sys.stderr.write(f"{PAGE} is written\n")


if __name__ == "__main__":
    main()
