"""What a patient's FHIR resources say: each element is looked up where its shape says and read into facts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import tzinfo
from typing import Any

from fhir_screen.core.dates import Span
from fhir_screen.core.facts import Fact, PatientRecord, Person, Standing
from fhir_screen.core.gaps import Gap
from fhir_screen.core.truth import Reason, Truth
from fhir_screen.fhir.assemble import SUBJECT_ELEMENTS
from fhir_screen.fhir.coding import about_what, absent_reason, codings_of, facets_of, is_readable, texts_of
from fhir_screen.fhir.datatypes import items, objects, string, words_of
from fhir_screen.fhir.dating import dates_of, when_asserted
from fhir_screen.fhir.dosage import doses_of
from fhir_screen.fhir.raw import Json, RawPatient
from fhir_screen.fhir.reading import Reading, links_of, ordered, reference_text
from fhir_screen.fhir.values import ranges_of, value_of
from fhir_screen.mapping.shapes import PartShape, PersonShape, Place, ResourceShape, Said, Shapes, StatusTest
from fhir_screen.mapping.vocabulary import Terms

_MASKING = {"MASKED", "REDACTED"}
_PERSON = re.compile(r"(?:^|/)(Patient|RelatedPerson)/([A-Za-z0-9.-]{1,64})")


def read(raw: RawPatient, shapes: Shapes, terms: Terms, zone: tzinfo) -> PatientRecord:
    """All facts of one patient. Our own write-back is left out first (rule R16), and types without a shape are ignored.

    Never fails on odd JSON: an element of a wrong type is as good as not there, and a resource of which not even the
    code can be read leaves a gap. ``zone`` is the site's: it says on which civil day an instant lies.
    """
    reading = Reading(
        raw, shapes, terms, zone, _person(raw.patient, shapes.person, zone), ordered(raw.resources, shapes)
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


def _statement(reading: Reading, shape: ResourceShape, reference: str, whole: Json) -> list[Fact] | Gap:
    if _about_another(reading, shape, whole):
        return []
    resource, in_force = _in_force(shape, whole, reading.zone)
    standing, flags = _standing(shape.status, resource)
    if not in_force:
        standing = Standing.UNSURE
    if standing is None or (standing is Standing.PLANNED and (_is_masked(resource) or _is_modified(resource))):
        return []
    about = about_what(reading, shape.code, resource)
    codings = codings_of(reading, about)
    masked = _is_masked(resource) or any(absent_reason(one) == "masked" for one in objects([v for _, v in about]))
    if standing is Standing.PLANNED and not codings:
        return []
    if masked and not codings:
        return Gap(shape.kind, Reason.MASKED, f"{_a(shape.kind)} is masked")
    if about and not any(is_readable(system, value) for system, value in about):
        return Gap(shape.kind, Reason.INCOMPLETE_FETCH, f"{_a(shape.kind)} could not be read")
    texts = texts_of(reading, about, shape.text, resource)
    if shape.doses is not None and not codings and not texts:
        return Gap(shape.kind, Reason.INCOMPLETE_FETCH, f"{_a(shape.kind)} does not say of which drug it is, nor does what it points to")
    if masked or _is_modified(resource):
        standing = Standing.UNSURE
    period, ongoing, recorded, dating = dates_of(reading, shape, resource)
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
        states=frozenset(state for path in shape.states for state in words_of(path(resource))),
        value=value_of(reading, shape.value, resource),
        ranges=ranges_of(reading, shape.ranges, resource),
        facets=facets_of(reading, shape.facets, resource),
        links=links_of(reading, shape.links, resource),
        doses=doses_of(shape.doses, resource, reading.zone),
        flags=shape.flags | flags | dating | _doubled(reading, reference),
        rank=shape.rank,
        recorded=recorded,
        asserted=when_asserted(reading, shape, resource),
    )
    if any(coding.names & concepts for facet, concepts in shape.not_when.items() for coding in fact.facets.get(facet, ())):
        return []
    return [fact, *_parts(reading, shape.components, fact, resource)]


def _about_another(reading: Reading, shape: ResourceShape, resource: Json) -> bool:
    """Whether it tells of a person who is not its subject (rule R6): the newborn on the mother's chart, a donor."""
    named = (_PERSON.search(reference_text(one)) for path in shape.about_others for one in items(path(resource)))
    own = {reading.raw.id, *(_subject(resource))}
    return any(person[1] != "Patient" or person[2] not in own for person in named if person)


def _subject(resource: Json) -> Iterator[str]:
    for element in SUBJECT_ELEMENTS:
        if found := _PERSON.search(reference_text(resource.get(element))):
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


def _parts(reading: Reading, shape: PartShape | None, whole: Fact, resource: Json) -> Iterator[Fact]:
    """Components are statements of their own, with the date and standing of the whole."""
    if shape is None:
        return
    for number, part in enumerate(objects(shape.at(resource)), start=1):
        about = about_what(reading, shape.code, part)
        codings = codings_of(reading, about)
        if not codings:
            continue
        inherited = {name: facet for name, facet in whole.facets.items() if name not in shape.facets}
        yield replace(
            whole,
            codings=codings,
            texts=texts_of(reading, about, shape.text, part),
            value=value_of(reading, shape.value, part),
            ranges=ranges_of(reading, shape.ranges, part),
            facets=inherited | facets_of(reading, shape.facets, part),
            doses=(),
            part=number,
        )


def _version(resource: Json) -> str | None:
    meta = resource.get("meta")
    version = meta.get("versionId") if isinstance(meta, dict) else None
    return str(version) if isinstance(version, str | int) and not isinstance(version, bool) else None


def _doubled(reading: Reading, reference: str) -> frozenset[str]:
    return frozenset({"duplicate_id"} if reference in reading.raw.duplicates else ())


def _a(kind: str) -> str:
    return f"{'an' if kind[:1] in 'AEIOU' else 'a'} {kind}"


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
    known = {test.says[word] for spelled in words_of(found) if (word := spelled.lower()) in test.says}
    if not known:
        return test.otherwise, ""
    said = next((one for one in (*_RANKED, Said.FLAGGED) if one in known), Said.HOLDS)
    return said, test.flag if said is Said.FLAGGED else ""


def _is_modified(resource: Json) -> bool:
    """Whether it carries something that may turn its meaning round, and that nobody here understands (rule R5)."""
    return bool(resource.get("implicitRules")) or bool(resource.get("modifierExtension"))


def _is_masked(resource: Json) -> bool:
    meta = resource.get("meta")
    labels = objects(meta.get("security")) if isinstance(meta, dict) else ()
    return any(string(label.get(name)).upper() in _MASKING for label in labels for name in ("code", "display", "text"))
