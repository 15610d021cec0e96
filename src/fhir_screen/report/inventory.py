"""What the mappings do not know of a hospital's records: codes and units, most frequent first, as YAML to paste."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from fhir_screen.core.facts import Fact, PatientRecord
from fhir_screen.core.quantities import Interval, Quantity
from fhir_screen.core.rules import Rule, Selector
from fhir_screen.core.trials import Atom, Trial
from fhir_screen.core.walk import selectors
from fhir_screen.core.words import Words
from fhir_screen.mapping.vocabulary import Terms
from fhir_screen.report.wording import counted

UNDECIDED: Final = "NAME-IT"
"""Stands where a person has to name a concept or a unit; no mapping has it, so a forgotten one is an error."""

_SHARED: Final = 2
"""Words that somebody typed are shown where so many patients carry the same; of one patient alone they may be his."""


_NAMELESS: Final = frozenset({"ResearchSubject"})
"""Types whose codes are identifiers (of studies), which nobody maps."""


@dataclass(frozen=True, slots=True)
class UnknownCode:
    """A code that no concept holds; ``count`` records of ``patients`` patients carry it and no code that is known.

    Without ``code`` it stands for records that have words alone. ``perhaps`` are concepts whose name is in the words.
    """

    kind: str
    system: str
    code: str
    display: str
    unit: str
    count: int
    patients: int
    atoms: tuple[str, ...] = ()
    perhaps: tuple[str, ...] = ()
    known_system: bool = False
    """By its system the code is another thing, though a name that somebody looks for stands in its display."""


@dataclass(frozen=True, slots=True)
class UnknownUnit:
    """A spelling of a unit that could not be read, and what it came with: concepts, or codes that are unknown too.

    Empty where results came without a unit; ``readable`` where the unit is known, and not one of these tests.
    """

    spelling: str
    concepts: tuple[str, ...]
    count: int
    readable: bool = False


@dataclass(frozen=True, slots=True)
class Inventory:
    patients: int
    codes: tuple[UnknownCode, ...]
    units: tuple[UnknownUnit, ...]


@dataclass(frozen=True, slots=True)
class _Key:
    kind: str
    system: str
    code: str
    words: str = ""
    """Only of records without a code."""
    certain: bool = False
    """The system is known, and the code is another thing by it; worth a line only where its name says otherwise."""


@dataclass(slots=True)
class _Seen:
    count: int = 0
    carriers: set[str] = field(default_factory=set)
    displays: Counter[str] = field(default_factory=Counter)
    texts: dict[str, set[str]] = field(default_factory=dict)
    units: Counter[str] = field(default_factory=Counter)
    strange: Counter[str] = field(default_factory=Counter)
    """Those of the units that cannot be read."""

    def add(self, patient: str, display: str, fact: Fact, terms: Terms) -> None:
        self.count += 1
        self.carriers.add(patient)
        if display:
            self.displays[display] += 1
        for text in fact.texts:
            self.texts.setdefault(text, set()).add(patient)
        if (quantity := _quantity(fact)) is not None and (unit := _spelling(quantity)):
            self.units[unit] += 1
        self.strange.update(_unknown_units(fact, terms))

    @property
    def display(self) -> str:
        """The name that the coding itself gives, else typed words that several patients share."""
        shared = Counter({text: len(who) for text, who in self.texts.items() if len(who) >= _SHARED})
        return _first(self.displays) or _first(shared)

    @property
    def unit(self) -> str:
        return _first(self.units)


def _first(counted: Counter[str]) -> str:
    return min(counted, key=lambda text: (-counted[text], text), default="")


def inventory(
    records: Iterable[PatientRecord], trials: Iterable[Trial], terms: Terms, names: Mapping[str, Words]
) -> Inventory:
    """Counts what is not understood, of the resource types that some atom looks at.

    ``names`` are what concepts are called at sites, beside their labels.

    It holds codes, displays and units, and no patient data: words that somebody typed only where patients share them.
    """
    watchers = list(_watchers(trials, terms, names))
    kinds = _coded_kinds(watcher.selector for watcher in watchers)
    seen: dict[_Key, _Seen] = {}
    spellings: Counter[str] = Counter()
    concepts: dict[str, set[str]] = {}
    patients = 0
    for record in records:
        patients += 1
        for fact in record.facts:
            if fact.kind not in kinds:
                continue
            for key, display in _unknown_codes(fact):
                seen.setdefault(key, _Seen()).add(record.patient, display, fact, terms)
            if measured := fact.concepts & terms.analyte_of.keys():
                for spelling in _unknown_units(fact, terms):
                    spellings[spelling] += 1
                    concepts.setdefault(spelling, set()).update(measured)
    entries = list(_entries(seen, watchers))
    for entry, one in entries:
        # A result whose code gets its meaning from this list needs its unit at once, not in a second round.
        for spelling, count in one.strange.items() if entry.atoms and not entry.known_system else ():
            spellings[spelling] += count
            concepts.setdefault(spelling, set()).add(entry.code)
    codes = [entry for entry, _ in entries] + list(_words_alone(seen, watchers))
    return Inventory(
        patients,
        tuple(sorted(codes, key=lambda c: (-c.count, -c.patients, c.kind, c.system, c.code, c.display))),
        tuple(
            UnknownUnit(spelling, tuple(sorted(concepts[spelling])), count, _readable(spelling, terms))
            for spelling, count in sorted(spellings.items(), key=lambda item: (-item[1], item[0]))
        ),
    )


def kinds_looked_at(trials: Iterable[Trial]) -> frozenset[str]:
    """The resource types in which a code that nobody knows may matter to these trials."""
    atoms = (atom for trial in trials for criterion in trial.criteria for atom in criterion.atoms)
    return _coded_kinds(selector for atom in atoms for selector in _selectors(atom))


def _coded_kinds(looked_for: Iterable[Selector]) -> frozenset[str]:
    return frozenset[str]().union(*(selector.kinds for selector in looked_for)) - _NAMELESS


def unmapped(record: PatientRecord, kinds: frozenset[str]) -> frozenset[str]:
    """The codings of one record that the mappings do not know, as system|code, and nothing else of the patient.

    Not here: a code of a known system that is another thing by it, and a code without a system, which may be typed.
    """
    facts = (fact for kind in kinds for fact in record.by_kind.get(kind, ()))
    keys = {key for fact in facts for key, _ in _unknown_codes(fact)}
    return frozenset(f"{key.system}|{key.code}" for key in keys if key.system and key.code and not key.certain)


def _unknown_codes(fact: Fact) -> Iterator[tuple[_Key, str]]:
    """Nothing, where some code of the statement is known."""
    if fact.concepts:
        return
    for coding in fact.codings:
        code = coding.code
        yield _Key(fact.kind, code.uri, code.code, certain=fact.conclusive), code.display
    if not fact.codings and fact.texts:
        yield _Key(fact.kind, "", "", fact.texts[0]), ""


def _entries(seen: Mapping[_Key, _Seen], watchers: Sequence[_Watcher]) -> Iterator[tuple[UnknownCode, _Seen]]:
    """One entry a code, and one for words that patients share."""
    for key, one in seen.items():
        concern = _concern(key, one, watchers)
        if (key.certain and not concern.atoms) or _his_own(key, one):
            continue
        display, carriers = key.words or one.display, len(one.carriers)
        yield (
            UnknownCode(
                key.kind, key.system, key.code, display, one.unit, one.count, carriers, concern.atoms, concern.perhaps,
                key.certain,
            ),
            one,
        )  # fmt: skip


def _words_alone(seen: Mapping[_Key, _Seen], watchers: Sequence[_Watcher]) -> Iterator[UnknownCode]:
    """One entry a resource type for all words that stand with one patient alone: how many, never which."""
    alone: dict[str, list[tuple[_Seen, _Concern]]] = {}
    for key, one in seen.items():
        if _his_own(key, one):
            alone.setdefault(key.kind, []).append((one, _concern(key, one, watchers)))
    for kind, many in alone.items():
        atoms = sorted({atom for _, concern in many for atom in concern.atoms})
        patients = {patient for one, _ in many for patient in one.carriers}
        yield UnknownCode(kind, "", "", "", "", sum(one.count for one, _ in many), len(patients), tuple(atoms))


def _his_own(key: _Key, one: _Seen) -> bool:
    return not key.code and len(one.carriers) < _SHARED


def _readable(spelling: str, terms: Terms) -> bool:
    return terms.vocabulary.units.ucum(Quantity(Interval(None, None), None, spelling, spelling)) is not None


def _quantity(fact: Fact) -> Quantity | None:
    """The amount of a result, in the record as such or as a text ("21.4")."""
    if fact.value is None or fact.value.quantity is not None:
        return fact.value.quantity if fact.value else None
    return Quantity.from_text(fact.value.text) if fact.value.text else None


def _spelling(quantity: Quantity) -> str:
    return quantity.unit_text or quantity.unit_code or ""


def _unknown_units(fact: Fact, terms: Terms) -> Iterator[str]:
    """The unit's spelling where it means nothing, or none in which the fact's tests come."""
    quantity = _quantity(fact)
    if quantity is None:
        return
    ucum = terms.vocabulary.units.ucum(quantity)
    analytes = {terms.analyte_of[concept] for concept in fact.concepts & terms.analyte_of.keys()}
    if ucum is None or (analytes and not any(ucum in terms.vocabulary.analytes[name].factors for name in analytes)):
        yield _spelling(quantity)


@dataclass(frozen=True, slots=True)
class _Watcher:
    """An atom's selector, with the names and the words by which an unknown record would concern it."""

    atom: str
    selector: Selector
    names: Mapping[str, tuple[Words, ...]]


@dataclass(frozen=True, slots=True)
class _Concern:
    atoms: tuple[str, ...]
    perhaps: tuple[str, ...]


def _watchers(trials: Iterable[Trial], terms: Terms, named: Mapping[str, Words]) -> Iterator[_Watcher]:
    for trial in trials:
        for criterion in trial.criteria:
            for atom in criterion.atoms:
                for selector in _selectors(atom):
                    names = {c: _names(c, terms, named) for c in sorted(selector.find)}
                    yield _Watcher(atom.id, selector, names)


def _names(concept: str, terms: Terms, named: Mapping[str, Words]) -> tuple[Words, ...]:
    label = Words.of([terms.vocabulary.labels[concept]])
    return (label, named[concept]) if concept in named else (label,)


def _selectors(atom: Atom) -> Iterator[Selector]:
    rules: list[Rule] = [atom.rule, *([atom.asked_when] if atom.asked_when else [])]
    for rule in rules:
        yield from selectors(rule)


def _concern(key: _Key, one: _Seen, watchers: Iterable[_Watcher]) -> _Concern:
    """The atoms whose words are hit, or whose concepts have their name in the code, its display or its text."""
    texts = [key.code, *one.displays, *one.texts]
    atoms: set[str] = set()
    perhaps: set[str] = set()
    for watcher in watchers:
        if key.kind not in watcher.selector.kinds:
            continue
        named = {concept for concept, names in watcher.names.items() if any(n.find(texts) for n in names)}
        words = None if key.certain else watcher.selector.words
        if named or (words is not None and words.find(texts)):
            atoms.add(watcher.atom)
            perhaps |= named or (watcher.selector.find if len(watcher.selector.find) == 1 else set())
    return _Concern(tuple(sorted(atoms)), tuple(sorted(perhaps)))


def as_overlay(found: Inventory, most: int = 200) -> str:
    """A site overlay to paste and correct: every entry is a comment until somebody names its concept.

    Of codes that seem to concern no atom, or are another thing by their system, at most ``most`` are listed.
    """
    coded = [entry for entry in found.codes if entry.code]
    concerned = [entry for entry in coded if entry.atoms and not entry.known_system]
    others = [entry for entry in coded if not entry.atoms]
    known = [entry for entry in coded if entry.known_system]
    lines = [
        f"# What the mappings do not know in {counted(found.patients, 'patient')}, most frequent first. Write a concept for",
        f"# {UNDECIDED} (`fhir-screen concepts WORD` lists them), or `equals: SYSTEM|code` with a code that the mappings",
        "# know, take the # of the line away, and give the file with --site. Lines that stay comments do no harm.",
        "codes:",
    ]
    if concerned:
        lines.append("  # --- may concern these trials")
    lines += (line for entry in concerned for line in _code_lines(entry))
    if others:
        lines.append("  # --- nothing in their words says that they concern these trials")
    lines += (line for entry in others[:most] for line in _code_lines(entry))
    if len(others) > most:
        lines.append(f"  # and {len(others) - most} more; --json has them all")
    if known:
        lines.append("  # --- another test by their code; look here if one is missing that should be there")
    lines += (line for entry in known[:most] for line in _code_lines(entry))
    lines.append("units:")
    lines += (line for unit in found.units for line in _unit_lines(unit))
    return "\n".join([*lines, *_uncoded_lines(found)]) + "\n"


def _unit_lines(unit: UnknownUnit) -> Iterator[str]:
    tests = ", ".join(unit.concepts)
    if not unit.spelling:
        yield f"  # {unit.count} x without a unit, with {tests}: see `resources:` if it stands in another element"
    elif unit.readable:
        yield f"  # {unit.count} x {_quoted(unit.spelling)}, which is no unit of {tests}: look at the code first"
    else:
        yield f"  # {unit.count} x with {tests}; name the UCUM code, for example 10*3/uL or g/dL"
        yield f"  #{UNDECIDED}: [{_quoted(unit.spelling)}]"


def _code_lines(entry: UnknownCode) -> Iterator[str]:
    parts = [
        f"{entry.count} x {entry.kind} of {counted(entry.patients, 'patient')}",
        *([f"unit {_quoted(entry.unit)}"] if entry.unit else []),
        *([f"may concern {', '.join(entry.atoms)}"] if entry.atoms else []),
        *([f"perhaps {' or '.join(entry.perhaps)}"] if entry.perhaps else []),
    ]
    row = f"system: {_quoted(entry.system)}, code: {_quoted(entry.code)}, display: {_quoted(entry.display)}"
    yield f"  # {'; '.join(parts)}"
    if entry.system:
        yield f"  #- {{{row}, concept: {UNDECIDED}}}"
    else:
        yield f"  # {_quoted(entry.code)} comes without a system: no overlay can name it, the source has to"


def _uncoded_lines(found: Inventory) -> Iterator[str]:
    uncoded = [entry for entry in found.codes if not entry.code]
    if uncoded:
        yield "# Records with words and no code, which no overlay can map; word lists watch over them:"
    for entry in uncoded:
        words = _quoted(entry.display) if entry.display else "in words that no two patients share"
        concern = f"; may concern {', '.join(entry.atoms)}" if entry.atoms else ""
        yield f"# {entry.count} x {entry.kind} of {counted(entry.patients, 'patient')}, {words}{concern}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def as_json(found: Inventory) -> Mapping[str, object]:
    return {
        "schema": "fhir-screen/codes/1",
        "patients": found.patients,
        "codes": [
            {
                "type": c.kind, "system": c.system, "code": c.code, "display": c.display, "unit": c.unit,
                "count": c.count, "patients": c.patients, "atoms": list(c.atoms), "perhaps": list(c.perhaps),
                "known_system": c.known_system,
            }
            for c in found.codes
        ],
        "units": [
            {"spelling": u.spelling, "concepts": list(u.concepts), "count": u.count, "readable": u.readable}
            for u in found.units
        ],
    }  # fmt: skip
