"""What the mappings do not know of a hospital's records: codes and unit spellings, most frequent first, as YAML to paste."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from fhir_screen.core.facts import Fact, PatientRecord
from fhir_screen.core.rules import Rule, Selector
from fhir_screen.core.trials import Atom, Trial
from fhir_screen.mapping.vocabulary import Terms
from fhir_screen.mapping.walk import selectors


@dataclass(frozen=True, slots=True)
class UnknownCode:
    """A code that no concept holds; ``count`` records of ``patients`` patients carry it and no code that is known."""

    kind: str
    system: str
    code: str
    display: str
    unit: str
    count: int
    patients: int
    atoms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UnknownUnit:
    """A spelling of a unit that could not be read, with the concepts it came with."""

    spelling: str
    concepts: tuple[str, ...]
    count: int


@dataclass(frozen=True, slots=True)
class Inventory:
    patients: int
    codes: tuple[UnknownCode, ...]
    units: tuple[UnknownUnit, ...]


_Key = tuple[str, str, str, str]


def inventory(records: Iterable[PatientRecord], trials: Iterable[Trial], terms: Terms) -> Inventory:
    """Counts what is not understood; it holds no patient data, only codes, displays and units."""
    counts: Counter[_Key] = Counter()
    carriers: dict[_Key, set[str]] = {}
    units: dict[_Key, str] = {}
    spellings: Counter[str] = Counter()
    concepts: dict[str, set[str]] = {}
    seen = 0
    for record in records:
        seen += 1
        for fact in record.facts:
            for key in _unknown_codes(fact):
                counts[key] += 1
                carriers.setdefault(key, set()).add(record.patient)
                units.setdefault(key, _unit(fact))
            if (spelling := _unknown_unit(fact, terms)) is not None:
                spellings[spelling] += 1
                concepts.setdefault(spelling, set()).update(fact.concepts & terms.analyte_of.keys())
    watchers = list(_watchers(trials, terms))
    codes = [
        UnknownCode(*key, units[key], count, len(carriers[key]), _concerned(key, watchers)) for key, count in counts.items()
    ]
    return Inventory(
        seen,
        tuple(sorted(codes, key=lambda c: (not c.atoms, -c.count, c.kind, c.system, c.code, c.display))),
        tuple(UnknownUnit(s, tuple(sorted(concepts[s])), n) for s, n in sorted(spellings.items(), key=lambda i: (-i[1], i[0]))),
    )


def _unknown_codes(fact: Fact) -> Iterator[_Key]:
    """Nothing, where some code of the statement is known or says that it is something else."""
    if fact.concepts or fact.conclusive:
        return
    coded = [c.code for c in fact.codings]
    for code in coded:
        yield (fact.kind, code.uri, code.code, code.display or (fact.texts[0] if fact.texts else ""))
    if not coded and fact.texts:
        yield (fact.kind, "", "", fact.texts[0])


def _unit(fact: Fact) -> str:
    quantity = fact.value.quantity if fact.value else None
    return (quantity.unit_text or quantity.unit_code or "") if quantity else ""


def _unknown_unit(fact: Fact, terms: Terms) -> str | None:
    quantity = fact.value.quantity if fact.value else None
    if quantity is None or not fact.concepts & terms.analyte_of.keys():
        return None
    if terms.vocabulary.units.ucum(quantity) is not None:
        return None
    return quantity.unit_text or quantity.unit_code or ""


@dataclass(frozen=True, slots=True)
class _Watcher:
    """An atom's selector, with the words by which an uncoded record would concern it."""

    atom: str
    selector: Selector
    labels: frozenset[str]


def _watchers(trials: Iterable[Trial], terms: Terms) -> Iterator[_Watcher]:
    for trial in trials:
        for criterion in trial.criteria:
            for atom in criterion.atoms:
                for selector in _selectors(atom):
                    labels = frozenset(terms.vocabulary.labels[c].lower() for c in selector.find)
                    yield _Watcher(atom.id, selector, labels)


def _selectors(atom: Atom) -> Iterator[Selector]:
    rules: list[Rule] = [atom.rule, *([atom.asked_when] if atom.asked_when else [])]
    for rule in rules:
        yield from selectors(rule)


def _concerned(key: _Key, watchers: Iterable[_Watcher]) -> tuple[str, ...]:
    """The atoms whose words are hit, or whose test bears this name."""
    kind, _, _, display = key
    text = display.lower()
    return tuple(
        sorted(
            {
                w.atom
                for w in watchers
                if kind in w.selector.kinds
                and ((w.selector.words and w.selector.words.find([display])) or any(label in text for label in w.labels))
            }
        )
    )


def as_overlay(found: Inventory, most: int = 200) -> str:
    """A site overlay to paste and correct: every entry is a comment until somebody names its concept."""
    lines = [
        "# What the mappings do not know, most frequent first. Name the concept (see mappings/concepts) or an equal code,",
        "# take the # away, and give the file with --site. Entries that concern nobody may be left out.",
        "codes:",
    ]
    for entry in found.codes[:most]:
        if not entry.code:
            continue
        concern = f"; may concern {', '.join(entry.atoms)}" if entry.atoms else ""
        unit = f", unit {entry.unit}" if entry.unit else ""
        lines.append(f"  # {entry.count} x {entry.kind}{unit}{concern}")
        lines.append(
            f"  # - {{system: {_quoted(entry.system)}, code: {_quoted(entry.code)}, "
            f"display: {_quoted(entry.display)}, concept: ?}}"
        )
    lines.append("units:")
    for unit_entry in found.units[:most]:
        lines.append(f"  # {unit_entry.count} x with {', '.join(unit_entry.concepts)}")
        lines.append(f"  # ?: [{_quoted(unit_entry.spelling)}]")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def as_json(found: Inventory) -> Mapping[str, object]:
    return {
        "schema": "fhir-screen/codes/1",
        "patients": found.patients,
        "codes": [
            {
                "type": c.kind, "system": c.system, "code": c.code, "display": c.display, "unit": c.unit,
                "count": c.count, "patients": c.patients, "atoms": list(c.atoms),
            }
            for c in found.codes
        ],
        "units": [{"spelling": u.spelling, "concepts": list(u.concepts), "count": u.count} for u in found.units],
    }  # fmt: skip

