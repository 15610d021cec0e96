"""Compiles code systems, code sets, analytes, units and words, with a site's own codes and spellings on top."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

from fhir_screen.core.chart import UpperLimit, Vocabulary
from fhir_screen.core.codes import (
    ITSELF,
    Code,
    Codebook,
    CodeSystem,
    Matching,
    Membership,
    Reach,
    canonical_code,
    canonical_uri,
)
from fhir_screen.core.quantities import Interval
from fhir_screen.core.units import Analyte, Factor, UnitTable, folded
from fhir_screen.core.words import Words
from fhir_screen.mapping.codeforms import FORMS
from fhir_screen.mapping.documents import (
    AnalyteDoc,
    AnalytesDoc,
    ConceptDoc,
    ConceptsDoc,
    LocalCodeDoc,
    SiteDoc,
    SystemsDoc,
    UnitsDoc,
    WordsDoc,
)
from fhir_screen.mapping.mistakes import Collected
from fhir_screen.mapping.scalars import day_of, fraction_of
from fhir_screen.mapping.validation import validated
from fhir_screen.mapping.yamlfile import Document, Steps, did_you_mean, one_of

OF_THE_CORE: Final = frozenset(
    {
        "qual-positive", "qual-negative", "qual-indeterminate", "interpretation-high", "interpretation-normal",
        "interpretation-low", "sex-male", "sex-female", "population-adult",
    }
)  # fmt: skip
"""Concepts by which every answer and every reference range is read, without a rule that names them."""


@dataclass(frozen=True, slots=True)
class Terms:
    """All that rules may name, beside the compiled vocabulary."""

    vocabulary: Vocabulary
    found_in: Mapping[str, frozenset[str]]
    analyte_of: Mapping[str, str]
    words: Mapping[str, Words]
    codes_of: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    texts: Mapping[str, tuple[Membership, ...]] = field(default_factory=dict)
    descended: frozenset[str] = frozenset()
    """Concepts whose descendants belong to them, listed or not."""
    local_codes: int = 0
    local_units: int = 0
    """How many codes and spellings of units the site named."""


@dataclass(slots=True)
class _Rows:
    table: dict[str, dict[str, dict[str, Membership]]] = field(default_factory=dict)

    def add(self, system: str, code: str, membership: Membership) -> None:
        self.table.setdefault(system, {}).setdefault(code, {})[membership.concept] = membership

    def holds(self, system: str, code: str, concept: str) -> bool:
        return concept in self.table.get(system, {}).get(code, {})

    def frozen(self) -> dict[str, dict[str, tuple[Membership, ...]]]:
        return {s: {c: tuple(ms.values()) for c, ms in codes.items()} for s, codes in self.table.items()}


@dataclass(frozen=True, slots=True)
class _Sets:
    """The code sets of all documents, before a site adds to their rows."""

    rows: _Rows = field(default_factory=_Rows)
    found_in: dict[str, frozenset[str]] = field(default_factory=dict)
    analyte_of: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    texts: dict[str, dict[str, Membership]] = field(default_factory=dict)
    codes_of: dict[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    descended: set[str] = field(default_factory=set)


def compile_terms(
    systems: Document,
    concepts: Iterable[Document],
    analytes: Document,
    units: Document,
    words: Document,
    site: tuple[Document, SiteDoc] | None = None,
    included: Sequence[tuple[Document, SiteDoc]] = (),
) -> Terms:
    """Compiles everything that rules may name; ``included`` are the site's further files of codes and units."""
    own = [*([site] if site else []), *included]
    system_doc, unit_doc = validated(SystemsDoc, systems), validated(UnitsDoc, units)
    code_systems = _systems(systems, system_doc, site)
    analyte_table = _analytes(analytes, validated(AnalytesDoc, analytes), unit_doc)
    sets = _sets(concepts, system_doc, code_systems, analyte_table)
    mistakes = Collected()
    for overlay in own:
        with mistakes.part():
            _add_local(overlay, sets.labels, code_systems, sets.rows)
    with mistakes.part():
        spellings = _spellings(units, unit_doc, own)
    with mistakes.part():
        limits = _upper_limits(site, sets.labels, sets.analyte_of, analyte_table)
    mistakes.tell()
    codebook = Codebook(code_systems, sets.rows.frozen())
    return Terms(
        Vocabulary(codebook, UnitTable.of(spellings), analyte_table, sets.labels, limits),
        sets.found_in, sets.analyte_of, _words(words), sets.codes_of,
        {text: tuple(ms.values()) for text, ms in sets.texts.items()}, frozenset(sets.descended),
        sum(len(doc.codes) for _, doc in own), sum(len(names) for _, doc in own for names in doc.units.values()),
    )  # fmt: skip


def _sets(
    documents: Iterable[Document], system_doc: SystemsDoc, systems: Mapping[str, CodeSystem], analytes: Mapping[str, Analyte]
) -> _Sets:
    sets = _Sets()
    for document in documents:
        doc = validated(ConceptsDoc, document)
        for name, concept in doc.concepts.items():
            steps: Steps = ("concepts", name)
            if name in sets.labels:
                raise document.error(f"concept {name!r} is defined twice", steps, "merge the two")
            sets.labels[name] = concept.label
            sets.found_in[name] = frozenset(concept.found_in or doc.found_in)
            if concept.descendants:
                sets.descended.add(name)
            if concept.analyte:
                _known(document, concept.analyte, analytes, "analyte", (*steps, "analyte"))
                sets.analyte_of[name] = concept.analyte
            for text in concept.texts:
                sets.texts.setdefault(folded_text(text), {})[name] = Membership(name, 1)
            sets.codes_of[name] = tuple(_add_rows(document, steps, name, concept, system_doc, systems, sets.rows))
    return sets


def _spellings(document: Document, doc: UnitsDoc, own: Sequence[tuple[Document, SiteDoc]]) -> dict[str, tuple[str, ...]]:
    """How each unit is written, here and at the site."""
    spellings = {ucum: tuple(names) for ucum, names in doc.units.items()}
    mistakes = Collected()
    for overlay, named in own:
        for ucum, more in named.units.items():
            with mistakes.part():
                _known(overlay, ucum, doc.units, "unit", ("units", ucum), remedy="name its UCUM code, e.g. 10*3/uL or g/dL")
                spellings[ucum] = (*spellings[ucum], *more)
    with mistakes.part():
        _check_spellings(document, doc, own)
    mistakes.tell()
    return spellings


def _words(document: Document) -> dict[str, Words]:
    doc = validated(WordsDoc, document)
    return {name: Words.of(listed, doc.but_not, proving=name in doc.proving) for name, listed in doc.words.items()}


def _check_factors(document: Document, doc: AnalytesDoc, units: UnitsDoc) -> None:
    """A unit that `units.yaml` does not know is never recognised; "" is the unit of a bare number."""
    for name, entry in doc.analytes.items():
        for table in ("factors", "molar", "fraction"):
            for unit in getattr(entry, table):
                if unit:
                    _known(document, unit, units.units, "unit", ("analytes", name, table, unit))


def _check_spellings(document: Document, doc: UnitsDoc, own: Sequence[tuple[Document, SiteDoc]]) -> None:
    """One spelling means one unit: case and typography are folded, so "G/L" (Giga) cannot stand beside "g/L"."""
    meant: dict[str, str] = {}
    for source, named in ((document, doc.units), *((overlay, site.units) for overlay, site in own)):
        for ucum, texts in named.items():
            for number, text in enumerate((ucum, *texts)):
                other = meant.setdefault(folded(text), ucum)
                if other != ucum:
                    steps = ("units", ucum, number - 1) if number else ("units", ucum)
                    raise source.error(f"the spelling {text!r} already means {other}", steps, "keep it under one unit")


def folded_text(text: str) -> str:
    """How answers given as text are compared: whole, without case, outer blanks and doubled blanks (rule R13)."""
    return " ".join(text.lower().split()).strip(" .")


def _systems(document: Document, doc: SystemsDoc, site: tuple[Document, SiteDoc] | None) -> dict[str, CodeSystem]:
    table: dict[str, CodeSystem] = {}
    for key, entry in doc.systems.items():
        extra = tuple(site[1].system_aliases.get(key, ())) if site else ()
        system = CodeSystem(key, entry.uri, (*entry.aliases, *extra), Matching(entry.matching), Reach(entry.reach))
        table[key] = system
        for uri in (entry.uri, *entry.aliases, *extra):
            other = table.setdefault(canonical_uri(uri), system)
            if other is not system:
                raise document.error(f"{uri} is a name of {other.key} and of {key}", ("systems", key), "keep one")
    for name, keys in doc.joint.items():
        for number, key in enumerate(keys):
            _known(document, key, doc.systems, "code system", ("joint", name, number))
    if site is not None:
        for key in site[1].system_aliases:
            _known(site[0], key, doc.systems, "code system", ("system_aliases", key))
    return table


def _add_rows(
    document: Document, steps: Steps, name: str, concept: ConceptDoc, doc: SystemsDoc,
    systems: Mapping[str, CodeSystem], rows: _Rows,
) -> list[tuple[str, str]]:  # fmt: skip
    codes: list[tuple[str, str]] = []
    for number, row in enumerate(concept.codes):
        here = (*steps, "codes", number)
        if len(row) not in (4, 5):
            remedy = "write [system, code, display, verification] and perhaps a number"
            raise document.error("a code is a row of four or five", here, remedy)
        keys = doc.joint.get(row[0]) or (row[0],)
        for key in keys:
            _known(document, key, doc.systems, "code system", here, doc.joint)
            system = systems[key]
            _check_form(document, doc.systems[key].form, row[1], here)
            itself = row[1].startswith(ITSELF)
            code = canonical_code(row[1].removeprefix(ITSELF), system.matching)
            member = Membership(name, len(code), row[4] if len(row) == 5 else None)
            rows.add(key, f"{code}{ITSELF}" if itself and system.matching is Matching.PREFIX else code, member)
            codes.append((system.uri, row[1].removeprefix(ITSELF)))
    return codes


def _check_form(document: Document, form: str, code: str, steps: Steps) -> None:
    if form and not FORMS[form][0](code):
        raise document.error(f"{code!r} is not {FORMS[form][1]}", steps, "look it up again: a digit may be wrong")


def _add_local(
    site: tuple[Document, SiteDoc], labels: dict[str, str], systems: Mapping[str, CodeSystem], rows: _Rows
) -> None:
    mistakes = Collected()
    for number, local in enumerate(site[1].codes):
        with mistakes.part():
            _add_local_code(site[0], number, local, labels, systems, rows)
    mistakes.tell()


def _add_local_code(
    document: Document, number: int, local: LocalCodeDoc, labels: dict[str, str], systems: Mapping[str, CodeSystem], rows: _Rows
) -> None:
    steps = ("codes", number)
    known = systems.get(canonical_uri(local.system))
    key = known.key if known else canonical_uri(local.system)
    code = canonical_code(local.code, known.matching if known else Matching.EXACT)
    if not local.system.strip() or not local.code.strip():
        raise document.error("a local code needs its system and its code", steps, "write both as the records have them")
    if not local.concept and not local.equals:
        raise document.error("a local code needs `concept` or `equals`", steps, "name the concept it belongs to")
    for concept in local.concept:
        _known(document, concept, labels, "concept", (*steps, "concept"), remedy=CONCEPTS_LISTED)
        if not local.descends:
            rows.add(key, code, Membership(concept, 1000))
        elif not rows.holds(key, code, concept):
            # Only so does melanoma, listed, stay no other malignancy, although it lies below malignant disease.
            rows.add(key, code, Membership(concept, int(local.descends)))
    if local.equals:
        for membership in _equal(document, steps, local.equals, systems, rows):
            rows.add(key, code, Membership(membership.concept, 1000, membership.value))


CONCEPTS_LISTED = "`fhir-screen concepts WORD` lists them"


def _equal(
    document: Document, steps: Steps, equals: str, systems: Mapping[str, CodeSystem], rows: _Rows
) -> tuple[Membership, ...]:
    uri, _, code = equals.partition("|")
    system = systems.get(uri) or systems.get(canonical_uri(uri))
    if system is None or not code:
        raise document.error(f"{equals!r} is not system|code of a known system", (*steps, "equals"), "e.g. LNC|<code>")
    book = Codebook(systems, rows.frozen())
    found = book.memberships(Code(system.key, code, system.uri))
    if not found:
        raise document.error(f"no concept holds {equals}", (*steps, "equals"), "name a code that the mapping knows, or `concept`")
    return found


def _analytes(document: Document, doc: AnalytesDoc, units: UnitsDoc) -> dict[str, Analyte]:
    _check_factors(document, doc, units)
    return {name: _analyte(document, doc, name, entry) for name, entry in doc.analytes.items()}


def _analyte(document: Document, doc: AnalytesDoc, name: str, entry: AnalyteDoc) -> Analyte:
    steps: Steps = ("analytes", name)
    if entry.like:
        _known(document, entry.like, doc.analytes, "analyte", (*steps, "like"))
    base = doc.analytes[entry.like] if entry.like else entry
    factors = {unit: _factor(document, f, (*steps, "factors", unit)) for unit, f in base.factors.items()}
    for unit, f in base.molar.items():
        factors[unit] = Factor(_fraction(document, f, (*steps, "molar", unit)), molar=True)
    for unit, f in base.fraction.items():
        factors[unit] = Factor(_fraction(document, f, (*steps, "fraction", unit)), at_most=Fraction(1))
    unit = entry.unit or base.unit
    if unit not in factors:
        raise document.error(f"the canonical unit {unit!r} has no factor", steps, f"add {unit}: '1'")
    ranges = entry.plausible or base.plausible
    plausible = tuple(_range(document, text, (*steps, "plausible", n)) for n, text in enumerate(ranges))
    steps_of = entry.steps or base.steps
    return Analyte(
        name, unit, factors, plausible, frozenset(entry.whole or base.whole),
        tuple(entry.prefixes or base.prefixes), _fraction(document, steps_of, steps) if steps_of else None,
        entry.less_than, entry.more_than,
        {text: unit for unit, texts in (entry.spelled or base.spelled).items() for text in texts},
    )  # fmt: skip


def _factor(document: Document, text: str, steps: Steps) -> Factor:
    """"0.1", "1/88.42", or with what is added to it: "1/10.929 + 2.15"."""
    factor, _, offset = text.partition(" + ")
    return Factor(_fraction(document, factor, steps), offset=_fraction(document, offset, steps) if offset else Fraction(0))


def _range(document: Document, text: str, steps: Steps) -> Interval:
    low, _, high = text.partition(" to ")
    remedy = "write e.g. 3 to 20, or one number"
    first = _fraction(document, low, steps, remedy)
    last = _fraction(document, high, steps, remedy) if high else first
    if last < first:
        raise document.error(f"{text!r} runs backwards", steps, remedy)
    return Interval(first, last)


def _fraction(document: Document, text: str, steps: Steps, remedy: str = "write 0.1 or 1/88.42") -> Fraction:
    number = fraction_of(text)
    if number is None:
        raise document.error(f"{text!r} is not a number or a fraction", steps, remedy)
    return number


def _upper_limits(
    site: tuple[Document, SiteDoc] | None, labels: Mapping[str, str], analyte_of: Mapping[str, str],
    analytes: Mapping[str, Analyte],
) -> tuple[UpperLimit, ...]:  # fmt: skip
    if site is None:
        return ()
    document, doc = site
    limits = []
    for number, entry in enumerate(doc.upper_limits):
        steps: Steps = ("upper_limits", number)
        _known(document, entry.test, labels, "concept", (*steps, "test"), remedy=CONCEPTS_LISTED)
        value, _, unit = entry.high.partition(" ")
        analyte = analytes.get(analyte_of.get(entry.test, ""))
        if analyte is None or unit not in analyte.factors:
            raise document.error(f"{entry.test} does not come in {unit!r}", (*steps, "high"), f"write e.g. {value} U/L")
        for key, day in (("from", entry.from_), ("until", entry.until)):
            if day and day_of(day) is None:
                raise document.error(f"{day!r} is not a day", (*steps, key), "write YYYY-MM-DD")
        limits.append(
            UpperLimit(entry.test, _fraction(document, value, steps), unit, entry.sex or None, entry.from_, entry.until)
        )
    return tuple(limits)


def _known(
    document: Document, name: str, known: Collection[str], what: str, steps: Steps, also: Iterable[str] = (), remedy: str = ""
) -> None:
    """``also``: what may have been meant as well; ``remedy``: what to do where nothing is near."""
    if name not in known:
        raise document.error(f"unknown {what} {name!r}", steps, _remedied(name, what, [*known, *also], remedy))


def _remedied(name: str, what: str, known: Iterable[str], remedy: str) -> str:
    return (did_you_mean(name, known) or remedy) if remedy else one_of(name, f"{what}s", known)
