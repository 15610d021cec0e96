"""What a patient's FHIR resources say: each element is looked up where its shape says and read into facts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta, tzinfo
from typing import Any

from fhir_screen.core.codes import Code, canonical_uri
from fhir_screen.core.dates import BEGINNING, END_OF_TIME, Period, Span
from fhir_screen.core.facts import Coding, Dose, Fact, PatientRecord, Person, ReferenceRange, Standing, Value, coded
from fhir_screen.core.gaps import Gap
from fhir_screen.core.quantities import Quantity
from fhir_screen.core.truth import Reason, Truth
from fhir_screen.fhir.assemble import SUBJECT_ELEMENTS
from fhir_screen.fhir.datatypes import (
    Stretch,
    bare_number,
    bounds,
    course,
    dated,
    dose,
    dose_amount,
    duration,
    flat,
    hull,
    is_mass,
    items,
    objects,
    quantity,
    quantity_range,
    ranging,
    string,
    times_of,
    times_of_code,
    titre,
    years,
)
from fhir_screen.fhir.identity import is_own
from fhir_screen.fhir.raw import Json, RawPatient
from fhir_screen.mapping.paths import Path
from fhir_screen.mapping.shapes import (
    DosesShape,
    Going,
    PartShape,
    PersonShape,
    Place,
    RangesShape,
    ResourceShape,
    Said,
    Shapes,
    StatusTest,
    Take,
    ValueShape,
)
from fhir_screen.mapping.vocabulary import Terms, folded_text

_ABSENT_EXTENSION = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
_ABSENT_SYSTEMS = {
    "http://terminology.hl7.org/codesystem/data-absent-reason",
    "http://hl7.org/fhir/data-absent-reason",
}
_MASKING = {"MASKED", "REDACTED"}
_REFERENCE = re.compile(r"([A-Z][A-Za-z]+/[A-Za-z0-9.-]{1,64})(?:/_history/[^/]+)?")
_ORDER_ONLY = "order_only"
_NO_OBJECT: Json = {}


def read(raw: RawPatient, shapes: Shapes, terms: Terms, zone: tzinfo) -> PatientRecord:
    """All facts of one patient. Our own write-back is left out first (rule R16), and types without a shape are ignored.

    Never fails on odd JSON: an element of a wrong type is as good as not there, and a resource of which not even the
    code can be read leaves a gap. ``zone`` is the site's: it says on which civil day an instant lies.
    """
    reading = _Reading(
        raw, shapes, terms, zone, _person(raw.patient, shapes.person, zone), _ordered(raw.resources, shapes)
    )
    facts: list[Fact] = []
    gaps: list[Gap] = list(raw.gaps)
    for reference, resource in reading.resources:
        found = _statement(reading, shapes.resources[resource["resourceType"]], reference, resource)
        if isinstance(found, Gap):
            gaps.append(found)
            continue
        facts.extend(found)
        if found and _is_masked(resource):
            kind = found[0].kind
            gaps.append(Gap(kind, Reason.MASKED, f"{_a(kind)} is masked in part", of_silence=True))
    return PatientRecord.of(raw.id, reading.person, tuple(facts), tuple(dict.fromkeys(gaps)))


@dataclass(frozen=True, slots=True)
class _Reading:
    """What reading any element may need: the patient's resources by reference, the terms, and what was read before."""

    raw: RawPatient
    shapes: Shapes
    terms: Terms
    zone: tzinfo
    person: Person
    resources: tuple[tuple[str, Json], ...]
    known: dict[tuple[str, str, str], Coding | None] = field(default_factory=dict)
    reports: dict[tuple[str, Path], dict[int, list[Json]]] = field(default_factory=dict)


def _ordered(resources: Iterable[Json], shapes: Shapes) -> tuple[tuple[str, Json], ...]:
    """Each resource once, with its reference, in an order that does not hang on the source's."""
    grouped: dict[str, list[Json]] = {}
    for resource in resources:
        kind = resource.get("resourceType")
        if isinstance(kind, str) and kind in shapes.resources and not is_own(resource):
            reference = f"{kind}/{string(resource.get('id'))}"
            grouped.setdefault(reference, []).append(resource)
            for part in objects(resource.get("contained")):
                if part.get("resourceType") in shapes.resources[kind].contains:
                    grouped.setdefault(f"{reference}#{string(part.get('id'))}", []).append(part)
    return tuple(pair for reference in sorted(grouped) for pair in _told_apart(reference, grouped[reference]))


def _told_apart(reference: str, resources: list[Json]) -> Iterator[tuple[str, Json]]:
    nameless = reference.endswith("/")
    distinct = resources if len(resources) == 1 else [one for _, one in sorted(_by_content(resources).items())]
    for number, resource in enumerate(distinct, start=1):
        yield f"{reference}?{number}" if nameless else reference, resource


def _by_content(resources: Iterable[Json]) -> dict[str, Json]:
    return {json.dumps(one, sort_keys=True, default=str): one for one in resources}


# The person


def _person(patient: Json, shape: PersonShape, zone: tzinfo) -> Person:
    def found(places: Iterable[Place]) -> list[Any]:
        return [value for place in places for value in items(place.path(patient))]

    def day(places: Iterable[Place]) -> Span | None:
        return next((span for value in found(places) if (span := Span.parse(value, zone))), None)

    death = found(shape.death)
    own_id = string(patient.get("id"))
    sexes = [value.lower().removesuffix("-typical") for value in found(shape.sex) if string(value)]
    return Person(
        born=day(shape.born),
        sex=next((sex for sex in sexes if sex in ("male", "female")), next(iter(sexes), None)),
        died=Truth.of(True in found(shape.died) or bool(death)),
        death=day(shape.death),
        source=f"Patient/{own_id}" if own_id else "",
        version=_version(patient),
    )


# One resource


def _statement(reading: _Reading, shape: ResourceShape, reference: str, whole: Json) -> list[Fact] | Gap:
    if _about_another(reading, shape, whole):
        return []
    resource, in_force = _in_force(shape, whole, reading.zone)
    standing, flags = _standing(shape.status, resource)
    if not in_force:
        standing = Standing.UNSURE
    if standing is None or (standing is Standing.PLANNED and (_is_masked(resource) or _is_modified(resource))):
        return []
    about = _about(reading, shape.code, resource)
    codings = _codings(reading, about)
    masked = _is_masked(resource) or any(_absent_reason(one) == "masked" for one in objects([v for _, v in about]))
    if standing is Standing.PLANNED and not codings:
        return []
    if masked and not codings:
        return Gap(shape.kind, Reason.MASKED, f"{_a(shape.kind)} is masked")
    if about and not any(_is_readable(system, value) for system, value in about):
        return Gap(shape.kind, Reason.INCOMPLETE_FETCH, f"{_a(shape.kind)} could not be read")
    texts = _texts(reading, about, shape.text, resource)
    if shape.doses is not None and not codings and not texts:
        return Gap(shape.kind, Reason.INCOMPLETE_FETCH, f"{_a(shape.kind)} does not say of which drug it is, nor does what it points to")
    if masked or _is_modified(resource):
        standing = Standing.UNSURE
    period, ongoing, recorded, dating = _dates(reading, shape, resource)
    fact = Fact(
        kind=shape.kind,
        reference=reference,
        version=_version(resource),
        codings=codings,
        texts=texts,
        standing=standing,
        why_unsure=Reason.MASKED if masked else Reason.STATUS,
        period=period,
        ongoing=ongoing,
        states=frozenset(state for path in shape.states for state in _words(path(resource))),
        value=_value(reading, shape.value, resource),
        ranges=_ranges(reading, shape.ranges, resource),
        facets=_facets(reading, shape.facets, resource),
        links=_links(reading, shape.links, resource),
        doses=_doses(shape.doses, resource, reading.zone),
        flags=shape.flags | flags | dating | _doubled(reading, reference),
        rank=shape.rank,
        recorded=recorded,
        asserted=_asserted(reading, shape, resource),
    )
    if any(coding.names & concepts for facet, concepts in shape.not_when.items() for coding in fact.facets.get(facet, ())):
        return []
    return [fact, *_parts(reading, shape.components, fact, resource)]


def _about_another(reading: _Reading, shape: ResourceShape, resource: Json) -> bool:
    """Whether it tells of a person who is not its subject (rule R6): the newborn on the mother's chart, a donor."""
    named = (_PERSON.search(_reference_text(one)) for path in shape.about_others for one in items(path(resource)))
    own = {reading.raw.id, *(_subject(resource))}
    return any(person[1] != "Patient" or person[2] not in own for person in named if person)


_PERSON = re.compile(r"(?:^|/)(Patient|RelatedPerson)/([A-Za-z0-9.-]{1,64})")


def _subject(resource: Json) -> Iterator[str]:
    for element in SUBJECT_ELEMENTS:
        if found := _PERSON.search(_reference_text(resource.get(element))):
            yield found[2]


def _in_force(shape: ResourceShape, resource: Json, zone: tzinfo) -> tuple[Json, bool]:
    """The resource with the entry of its history that is in force alone; False where nobody can tell which that is."""
    if shape.newest is None:
        return resource, True
    element, by = shape.newest
    entries = list(objects(resource.get(element)))
    if len(entries) < 2:
        return resource, True
    begun = [Span.parse(one.get(by), zone) for one in entries]
    last = max((span for span in begun if span), key=lambda span: span.earliest, default=None)
    newest = [one for one, span in zip(entries, begun, strict=True) if span is None or (last and span.latest >= last.earliest)]
    return {**resource, element: newest}, len(newest) == 1


def _asserted(reading: _Reading, shape: ResourceShape, resource: Json) -> Span | None:
    found, _ = _first(reading, shape.asserted, resource)
    return found.whole if isinstance(found, Stretch) else found


def _parts(reading: _Reading, shape: PartShape | None, whole: Fact, resource: Json) -> Iterator[Fact]:
    """Components are statements of their own, with the date and standing of the whole."""
    if shape is None:
        return
    for number, part in enumerate(objects(shape.at(resource)), start=1):
        about = _about(reading, shape.code, part)
        codings = _codings(reading, about)
        if not codings:
            continue
        inherited = {name: facet for name, facet in whole.facets.items() if name not in shape.facets}
        yield replace(
            whole,
            codings=codings,
            texts=_texts(reading, about, shape.text, part),
            value=_value(reading, shape.value, part),
            ranges=_ranges(reading, shape.ranges, part),
            facets=inherited | _facets(reading, shape.facets, part),
            doses=(),
            part=number,
        )


def _version(resource: Json) -> str | None:
    meta = resource.get("meta")
    version = meta.get("versionId") if isinstance(meta, dict) else None
    return str(version) if isinstance(version, str | int) and not isinstance(version, bool) else None


def _doubled(reading: _Reading, reference: str) -> frozenset[str]:
    return frozenset({"duplicate_id"} if reference in reading.raw.duplicates else ())


def _a(kind: str) -> str:
    return f"{'an' if kind[:1] in 'AEIOU' else 'a'} {kind}"


# Where things lie


def _found(reading: _Reading, place: Place, resource: Json) -> list[Any]:
    """What lies at a place: in this resource, behind a reference of it, or in what refers to it."""
    if place.reported_by and place.via:
        reporters = _reports(reading, place.reported_by, place.via).get(id(resource), ())
        return [value for reporter in reporters for value in items(place.path(reporter))]
    if place.through is None:
        return flat(place.path(resource))
    targets = _behind(reading, place.through, resource)
    if place.then is not None:
        targets = [further for target in targets for further in _behind(reading, place.then, target)]
    return [value for target in targets for value in items(place.path(target))]


def _behind(reading: _Reading, path: Path, resource: Json) -> list[Json]:
    """The resources that the references at a path lead to; one that leads nowhere is left out."""
    references = (_reference_text(one) for one in items(path(resource)))
    targets = (reading.raw.resolve(text, resource) for text in references if text)
    return [target for target in targets if target is not None]


def _reports(reading: _Reading, kind: str, via: Path) -> dict[int, list[Json]]:
    """Which resources of a kind refer to which resource of this patient; looked up once."""
    key = (kind, via)
    if key not in reading.reports:
        table: dict[int, list[Json]] = {}
        for _, reporter in reading.resources:
            for target in _behind(reading, via, reporter) if reporter["resourceType"] == kind else ():
                table.setdefault(id(target), []).append(reporter)
        reading.reports[key] = table
    return reading.reports[key]


def _reference_text(value: object) -> str:
    """The literal reference, also where a CodeableReference of R5 wraps it."""
    if isinstance(value, dict):
        inner = value.get("reference")
        return string(inner.get("reference")) if isinstance(inner, dict) else string(inner)
    return string(value)


def _links(reading: _Reading, links: Mapping[str, tuple[Place, ...]], resource: Json) -> dict[str, tuple[str, ...]]:
    found = {
        name: tuple(
            dict.fromkeys(_link(reading, one, resource) for p in places for one in _found(reading, p, resource))
        )
        for name, places in links.items()
    }
    return {name: references for name, references in found.items() if references}


def _link(reading: _Reading, value: object, resource: Json) -> str:
    """A reference as "Kind/id"; what leads to no resource of the record is kept as it came: it is a link still."""
    text = _reference_text(value)
    if relative := _REFERENCE.fullmatch(text):
        return relative[1]
    target = reading.raw.resolve(text, resource) if text and not text.startswith("#") else None
    if target is not None and string(target.get("id")):
        return f"{target.get('resourceType')}/{target['id']}"
    return text or "?"


# Status (rule R5)


_RANKED = (Said.VOID, Said.PLANNED, Said.DENIED, Said.UNSURE, Said.PENDING)
_STANDING = {
    Said.PLANNED: Standing.PLANNED, Said.DENIED: Standing.DENIED, Said.UNSURE: Standing.UNSURE, Said.PENDING: Standing.PENDING,
}  # fmt: skip


def _standing(tests: Iterable[StatusTest], resource: Json) -> tuple[Standing | None, frozenset[str]]:
    """The weightiest of what the tests say, None where the statement is void, and the flags."""
    answers = [_said(test, resource) for test in tests]
    said = {one for one, _ in answers}
    if Said.VOID in said:
        return None, frozenset()
    worst = next((one for one in _RANKED if one in said), Said.HOLDS)
    return _STANDING.get(worst, Standing.HOLDS), frozenset(flag for _, flag in answers if flag)


def _said(test: StatusTest, resource: Json) -> tuple[Said, str]:
    found = next((values for path in test.paths if (values := list(items(path(resource))))), [])
    if not found:
        return test.missing, test.missing_flag
    known = {test.says[word] for spelled in _words(found) if (word := spelled.lower()) in test.says}
    if not known:
        return test.otherwise, ""
    said = next((one for one in (*_RANKED, Said.FLAGGED) if one in known), Said.HOLDS)
    return said, test.flag if said is Said.FLAGGED else ""


def _words(values: object) -> list[str]:
    """Codes as text; a JSON boolean by its name."""
    words = (str(one).lower() if isinstance(one, bool) else string(one) for one in items(values))
    return [word for word in words if word]


def _is_modified(resource: Json) -> bool:
    """Whether it carries something that may turn its meaning round, and that nobody here understands (rule R5)."""
    return bool(resource.get("implicitRules")) or bool(resource.get("modifierExtension"))


def _is_masked(resource: Json) -> bool:
    meta = resource.get("meta")
    labels = objects(meta.get("security")) if isinstance(meta, dict) else ()
    return any(string(label.get(name)).upper() in _MASKING for label in labels for name in ("code", "display", "text"))


def _absent_reason(value: Json) -> str:
    extensions = objects(value.get("extension"))
    return next((string(e.get("valueCode")) or "unknown" for e in extensions if e.get("url") == _ABSENT_EXTENSION), "")


# Dates (rule R7)


def _dates(
    reading: _Reading, shape: ResourceShape, resource: Json
) -> tuple[Period | None, Truth, Span | None, frozenset[str]]:
    """The period, whether it goes on, when it was recorded, and the flags of the places that were used."""
    going = _going(shape.ongoing, resource)
    when, flag = _first(reading, (*shape.when, *shape.start), resource)
    end, end_flag = _first(reading, shape.end, resource)
    recorded, _ = _first(reading, shape.recorded, resource)
    known = recorded if isinstance(recorded, Span) else recorded.ends if recorded else None
    ended = end if isinstance(end, Span) else end.ends if end else None
    if isinstance(when, Stretch) and shape.start:
        when = when.whole
    if ended and going is Truth.TRUE and shape.start:
        going = Truth.UNKNOWN  # recorded as going on, and as over
    elif ended or (isinstance(when, Stretch) and when.end):
        going = Truth.FALSE
    if isinstance(when, Span) and ended is None and (days := _course(reading, shape, resource, going)):
        return _for_days(when, days, going), Truth.FALSE, known, frozenset({flag} - {""})
    if isinstance(when, Span) and ended is None and _is_that_day(shape, going):
        return Period.at(when), _without_intake(shape, going), known, frozenset({flag} - {""})
    period = _period(reading, when, ended, known, going)
    return period, going, known, frozenset({flag, end_flag} - {""})


def _course(reading: _Reading, shape: ResourceShape, resource: Json, going: Truth) -> tuple[int, int] | None:
    """For how many days it was to be taken, by all of its dosage lines; else how long the supply lasts at most."""
    if shape.doses is None:
        return None
    lines = list(objects(shape.doses.at(resource)))
    each = [course(_repeat(shape.doses, line)) for line in lines]
    known = [days for days in each if days is not None]
    if known and len(known) == len(lines):
        joint = sum if _stepwise(lines) else max
        return joint(low for low, _ in known), joint(high for _, high in known)
    supplies = [duration(one) for one in objects(_all(reading, shape.supply, resource))]
    longest = max((days for days in supplies if days is not None), default=None)
    return None if longest is None or going is Truth.TRUE else (1, longest)


def _for_days(begun: Span, days: tuple[int, int], going: Truth) -> Period:
    """From its first day on; what is not active any more may have ended before its time."""
    low, high = (timedelta(days=count - 1) for count in days)
    return Period(begun, Span(begun.first + (low if going is Truth.TRUE else timedelta(0)), begun.last + high))


def _is_that_day(shape: ResourceShape, going: Truth) -> bool:
    """Whether a single date is the whole of it: an intake always, an event that does not go on (rule R15)."""
    lasts = bool(shape.start or shape.end)
    return _is_intake(shape) or not (lasts or going is Truth.TRUE)


def _is_intake(shape: ResourceShape) -> bool:
    return shape.doses is not None and _ORDER_ONLY not in shape.flags


def _without_intake(shape: ResourceShape, going: Truth) -> Truth:
    return Truth.FALSE if _is_intake(shape) else going


def _period(
    reading: _Reading, when: Span | Stretch | None, ended: Span | None, recorded: Span | None, going: Truth
) -> Period | None:
    """From a start to an end; what was only recorded had begun by then, and what ended had begun before."""
    if isinstance(when, Stretch):
        return _consistent(when.begins, ended or when.end or _open_end(when.begins, going))
    if when is None and (recorded or ended):
        last = min(one.last for one in (recorded, ended) if one)
        first = reading.person.born.first if reading.person.born else BEGINNING
        when = Span(min(first, last), last)
    return None if when is None else _consistent(when, ended or _open_end(when, going))


def _open_end(start: Span, going: Truth) -> Span:
    """What goes on has not ended; all else may have ended at any time since."""
    return Span.on(END_OF_TIME) if going is Truth.TRUE else Span(start.first, END_OF_TIME)


def _consistent(start: Span, end: Span) -> Period | None:
    """Nothing ends before it starts: partial dates are narrowed by each other, and contradicting ones tell nothing."""
    if end.last < start.first:
        return None
    if start.last > end.last:
        start = Span(start.first, end.last)
    if end.first < start.first:
        end = Span(start.first, end.last)
    return Period(start, end)


def _first(reading: _Reading, places: Iterable[Place], resource: Json) -> tuple[Span | Stretch | None, str]:
    """The first place that yields a date, and its flag."""
    for place in places:
        told = [dated(value, reading.zone, reading.person.born) for value in _found(reading, place, resource)]
        found = [one for one in told if one is not None]
        if place.take is Take.ALL and found:
            whole = hull(found)  # where a line has no dates, nobody knows when the whole of it ends
            found = [whole if len(found) == len(told) else Stretch(whole.start, None)]
        if found:
            return _taken(found[0], place.take), place.flag
    return None, ""


def _taken(found: Span | Stretch, take: Take) -> Span | Stretch:
    if isinstance(found, Span) or take in (Take.WHOLE, Take.ALL):
        return found
    return found.begins if take is Take.START else found.ends


def _going(shape: Going | None, resource: Json) -> Truth:
    """Whether it goes on by its status; codes that contradict each other leave it open."""
    if shape is None:
        return Truth.FALSE
    if shape.ended_when is not None and any(True for _ in items(shape.ended_when(resource))):
        return Truth.FALSE
    words = next((found for path in shape.paths if (found := set(_words(path(resource))))), set())
    if not words:
        return shape.missing
    yes, no = bool(words & shape.yes), bool(words & shape.no)
    return Truth.UNKNOWN if yes == no else Truth.of(yes)


# Codes (rules R13, R18)


_About = Sequence[tuple[str, Any]]
"""The elements that say what a statement is about, each with the code system that its place implies."""


def _about(reading: _Reading, places: Iterable[Place], resource: Json) -> _About:
    return [(place.system, value) for place in places for value in _found(reading, place, resource)]


def _is_readable(system: str, value: object) -> bool:
    """Whether it has the shape of a code or a concept: broken JSON in its place may hide any code.

    A bare string is a code only where the site's path says of which system.
    """
    if not isinstance(value, dict):
        return isinstance(value, str) and bool(system)
    return isinstance(value.get("coding", []), list) and isinstance(value.get("text", ""), str)


def _codings(reading: _Reading, about: _About) -> tuple[Coding, ...]:
    """What a statement is about, from codes alone."""
    return tuple(dict.fromkeys(coding for system, value in about for coding in _codes(reading, value, system)))


def _codes(reading: _Reading, value: object, system: str = "") -> Iterator[Coding]:
    """All codes of a CodeableConcept, Coding, Identifier, CodeableReference or plain code."""
    if isinstance(value, str):
        if coding := _coding(reading, system, value, ""):
            yield coding
    elif isinstance(value, dict):
        for one in _coding_objects(value):
            code = string(one.get("code")) or string(one.get("value"))
            coding = _coding(reading, string(one.get("system")), code, string(one.get("display")))
            if coding is not None and not _absent_reason(one):
                yield coding


def _coding_objects(value: Json) -> Iterator[Json]:
    concept = value.get("concept")
    if isinstance(concept, dict):
        yield from _coding_objects(concept)
    elif "coding" in value:
        yield from objects(value["coding"])
    else:
        yield value


def _coding(reading: _Reading, system: str, code: str, display: str) -> Coding | None:
    key = (system, code, display)
    if key not in reading.known:
        book = reading.terms.vocabulary.codebook
        absent = bool(system) and canonical_uri(system) in _ABSENT_SYSTEMS
        read_code = None if absent else book.read(system or None, code, display)
        reading.known[key] = coded(book, read_code) if read_code else None
    return reading.known[key]


def _texts(reading: _Reading, about: _About, places: Iterable[Place], resource: Json) -> tuple[str, ...]:
    """What a statement is about in words: the configured texts, and those beside its codes."""
    told = [string(value) for value in _all(reading, places, resource)]
    told += [_text(value) for system, value in about if not system]
    return tuple(dict.fromkeys(text for text in told if text))


def _text(value: object) -> str:
    if isinstance(value, dict):
        concept = value.get("concept")
        return _text(concept) if isinstance(concept, dict) else string(value.get("text"))
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else string(value)


def _answers(reading: _Reading, value: object, system: str = "") -> list[Coding]:
    """The codes of an answer; where none of them is known, its text or display by the dictionary (rule R13)."""
    codings = list(_codes(reading, value, system))
    if any(coding.concepts for coding in codings):
        return codings
    texts = [_text(value), *(coding.code.display for coding in codings)]
    worded = next((found for text in texts if (found := _worded(reading.terms, text))), None)
    return [*codings, worded] if worded else codings


def _worded(terms: Terms, text: str) -> Coding | None:
    """A text that is, as a whole, an answer of the dictionary."""
    memberships = terms.texts.get(folded_text(text)) if text else None
    return Coding(Code(None, "", display=text), memberships, conclusive=True) if memberships else None


def _last_part(terms: Terms, text: str) -> Coding | None:
    """The answer that ends a text ("<10 IU/mL, not detected"), unless another part of it answers differently."""
    *before, last = (_worded(terms, part.strip()) for part in re.split("[,;]", text))
    if last is None or last.code.display.isdigit():
        return None
    return last if all(one is None or one.names <= last.names for one in before) and before else None


def _facets(
    reading: _Reading, facets: Mapping[str, tuple[Place, ...]], resource: Json
) -> dict[str, tuple[Coding, ...]]:
    found = {
        name: tuple(dict.fromkeys(coding for place in places for coding in _facet(reading, place, resource)))
        for name, places in facets.items()
    }
    return {name: codings for name, codings in found.items() if codings}


def _facet(reading: _Reading, place: Place, resource: Json) -> Iterator[Coding]:
    for whole in _found(reading, place, resource):
        parts = [whole] if place.inner is None else flat(place.inner(whole))
        mates = [] if place.beside is None else flat(place.beside(whole))
        beside = frozenset(name for mate in mates for one in _answers(reading, mate, place.system) for name in one.names)
        for value in parts:
            for coding in _answers(reading, value, place.system) or _not_understood(value):
                yield replace(coding, beside=beside) if beside else coding


def _not_understood(value: object) -> list[Coding]:
    """A text that no dictionary has: something is said, so that it must not count as missing."""
    text = _text(value)
    return [Coding(Code(None, "", display=text))] if text else []


# Values (rules R10 to R13)


def _value(reading: _Reading, shape: ValueShape | None, resource: Json) -> Value | None:
    if shape is None:
        return None
    if _all(reading, shape.absent, resource):
        return Value(absent=True)
    amount, text = _amount(reading, shape, resource)
    answers = [(place, value) for place in shape.coded for value in _found(reading, place, resource)]
    codings = [coding for place, value in answers for coding in _answers(reading, value, place.system)]
    said = next((string(one) for one in _all(reading, shape.text, resource) if string(one)), "")
    if said and not any(coding.concepts for coding in codings):
        worded = _worded(reading.terms, said) or _last_part(reading.terms, said)
        codings += [worded] if worded else []
    text = said or text or next((told for _, value in answers if (told := _text(value))), "")
    boolean = next((one for one in _all(reading, shape.boolean, resource) if isinstance(one, bool)), None)
    if amount is None and not codings and not text and boolean is None:
        return Value(absent=True) if _is_there(reading, shape, resource) else None
    return Value(amount, tuple(dict.fromkeys(codings)), text or None, boolean)


def _all(reading: _Reading, places: Iterable[Place], resource: Json) -> list[Any]:
    return [value for place in places for value in _found(reading, place, resource)]


def _is_there(reading: _Reading, shape: ValueShape, resource: Json) -> bool:
    """Whether there is an element for the value, though none could be read from it."""
    places = (*shape.quantity, *shape.number, *shape.coded, *shape.text, *shape.boolean, *shape.range, *shape.ratio)
    return bool(_all(reading, places, resource))


def _amount(reading: _Reading, shape: ValueShape, resource: Json) -> tuple[Quantity | None, str]:
    """The first amount that can be read, and the text of one that is written in a way of its own."""
    for value in objects(_all(reading, shape.quantity, resource)):
        if (amount := quantity(value)) is not None:
            return amount, ""
    unit = next(iter(_words(_all(reading, shape.unit, resource))), "")
    for value in _all(reading, shape.number, resource):
        if (amount := bare_number(value, unit)) is not None:
            return amount, ""
    for value in objects(_all(reading, shape.range, resource)):
        if (amount := quantity_range(value)) is not None:
            return amount, ""
    for value in objects(_all(reading, shape.ratio, resource)):
        amount, text = titre(value)
        if amount is not None:
            return amount, text
    return None, ""


def _ranges(reading: _Reading, shape: RangesShape | None, resource: Json) -> tuple[ReferenceRange, ...]:
    if shape is None:
        return ()
    return tuple(_range(reading, shape, one) for one in objects(shape.at(resource)))


def _range(reading: _Reading, shape: RangesShape, value: Json) -> ReferenceRange:
    high = next((amount for one in objects(shape.high(value)) if (amount := quantity(one))), None)
    kinds = list(items(shape.type(value)))
    meanings = {coding.code.code.lower() for kind in kinds for coding in _codes(reading, kind)}
    applies = [
        coding for one in items(shape.applies_to(value)) for coding in _answers(reading, one) or _not_understood(one)
    ]
    return ReferenceRange(
        high=high,
        text=next((string(one) for one in items(shape.text(value)) if string(one)), None),
        meanings=frozenset(meanings or {text.lower() for kind in kinds if (text := _text(kind))}),
        applies_to=tuple(dict.fromkeys(applies)),
        ages=tuple(interval for one in objects(shape.age(value)) if (interval := years(one))),
    )


# Doses (rule R15)


def _doses(shape: DosesShape | None, resource: Json, zone: tzinfo) -> tuple[Dose, ...]:
    if shape is None:
        return ()
    lines = list(objects(shape.at(resource)))
    steps = _stepwise(lines)
    return tuple(_dose(shape, line, zone, stepwise=steps, lines=len(lines)) for line in lines)


def _stepwise(lines: Sequence[Json]) -> bool:
    return len({str(line.get("sequence")) for line in lines}) > 1


def _repeat(shape: DosesShape, line: Json) -> Json:
    return next((one for path in shape.repeat for one in objects(path(line))), _NO_OBJECT)


def _dose(shape: DosesShape, line: Json, zone: tzinfo, *, stepwise: bool, lines: int) -> Dose:
    amounts = {one for path in shape.amount for said in objects(path(line)) if (one := dose_amount(said)) is not None}
    masses = {one for one in amounts if is_mass(one)} or amounts  # beside milligrams, tablets and mg/kg say nothing new
    amount = masses.pop() if len(masses) == 1 else None  # what was ordered and what was calculated may differ
    if shape.single:
        return dose(amount, (1, 1))
    repeat = _repeat(shape, line)
    codes = (times_of_code(word) for path in shape.timing_code for word in _words(path(line)))
    per_day = times_of(repeat) or next((times for times in codes if times), None)
    if amount is not None and per_day is not None and (least := times_of(repeat, least=True)) not in (None, per_day):
        amount, per_day = ranging(amount, least or per_day, per_day), least
    bounded = bounds(repeat, zone)
    unclear = "boundsDuration" in repeat or "boundsRange" in repeat or (stepwise and bounded is None)
    if lines > 1 and unclear:
        per_day = None  # one step of a taper, and nothing says on which days
    needed = any(one is True or isinstance(one, dict) for path in shape.as_needed for one in items(path(line)))
    return dose(amount, per_day, as_needed=needed, bounds=bounded)
