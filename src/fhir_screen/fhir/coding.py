"""Which codes and words stand in an element, and which concepts and answers they mean (rules R13, R18)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fhir_screen.core.codes import Code, canonical_uri
from fhir_screen.core.facts import Coding, coded
from fhir_screen.fhir.datatypes import flat, objects, string
from fhir_screen.fhir.raw import Json
from fhir_screen.fhir.reading import Reading, all_found, found_at
from fhir_screen.mapping.shapes import Place
from fhir_screen.mapping.vocabulary import Terms, folded_text

_ABSENT_EXTENSION = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
_ABSENT_SYSTEMS = {
    "http://terminology.hl7.org/codesystem/data-absent-reason",
    "http://hl7.org/fhir/data-absent-reason",
}

About = Sequence[tuple[str, Any]]
"""The elements that say what a statement is about, each with the code system that its place implies."""


def about_what(reading: Reading, places: Iterable[Place], resource: Json) -> About:
    """What a statement is about, as it came: the elements at these places."""
    return [(place.system, value) for place in places for value in found_at(reading, place, resource)]


def is_readable(system: str, value: object) -> bool:
    """Whether it has the shape of a code or a concept: broken JSON in its place may hide any code.

    A bare string is a code only where the site's path says of which system.
    """
    if not isinstance(value, dict):
        return isinstance(value, str) and bool(system)
    return isinstance(value.get("coding", []), list) and isinstance(value.get("text", ""), str)


def codings_of(reading: Reading, about: About) -> tuple[Coding, ...]:
    """What a statement is about, from codes alone."""
    return tuple(dict.fromkeys(coding for system, value in about for coding in codes_of(reading, value, system)))


def codes_of(reading: Reading, value: object, system: str = "") -> Iterator[Coding]:
    """All codes of a CodeableConcept, Coding, Identifier, CodeableReference or plain code."""
    if isinstance(value, str):
        if coding := _coding(reading, system, value, ""):
            yield coding
    elif isinstance(value, dict):
        for one in _coding_objects(value):
            code = string(one.get("code")) or string(one.get("value"))
            coding = _coding(reading, string(one.get("system")), code, string(one.get("display")))
            if coding is not None and not absent_reason(one):
                yield coding


def _coding_objects(value: Json) -> Iterator[Json]:
    concept = value.get("concept")
    if isinstance(concept, dict):
        yield from _coding_objects(concept)
    elif "coding" in value:
        yield from objects(value["coding"])
    else:
        yield value


def _coding(reading: Reading, system: str, code: str, display: str) -> Coding | None:
    key = (system, code, display)
    if key not in reading.known:
        book = reading.terms.vocabulary.codebook
        absent = bool(system) and canonical_uri(system) in _ABSENT_SYSTEMS
        read_code = None if absent else book.read(system or None, code, display)
        reading.known[key] = coded(book, read_code) if read_code else None
    return reading.known[key]


def texts_of(reading: Reading, about: About, places: Iterable[Place], resource: Json) -> tuple[str, ...]:
    """What a statement is about in words: the configured texts, and those beside its codes."""
    told = [string(value) for value in all_found(reading, places, resource)]
    told += [text_of(value) for system, value in about if not system]
    return tuple(dict.fromkeys(text for text in told if text))


def text_of(value: object) -> str:
    """The words of a concept, or of a plain value."""
    if isinstance(value, dict):
        concept = value.get("concept")
        return text_of(concept) if isinstance(concept, dict) else string(value.get("text"))
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else string(value)


def answers_of(reading: Reading, value: object, system: str = "") -> list[Coding]:
    """The codes of an answer; where none of them is known, its text or display by the dictionary (rule R13)."""
    codings = list(codes_of(reading, value, system))
    if any(coding.concepts for coding in codings):
        return codings
    texts = [text_of(value), *(coding.code.display for coding in codings)]
    worded = next((found for text in texts if (found := answer_in_words(reading.terms, text))), None)
    return [*codings, worded] if worded else codings


def answer_in_words(terms: Terms, text: str) -> Coding | None:
    """A text that is, as a whole, an answer of the dictionary."""
    memberships = terms.texts.get(folded_text(text)) if text else None
    return Coding(Code(None, "", display=text), memberships, conclusive=True) if memberships else None


def answer_at_end(terms: Terms, text: str) -> Coding | None:
    """The answer that ends a text ("<10 IU/mL, not detected"), unless another part of it answers differently."""
    *before, last = (answer_in_words(terms, part.strip()) for part in re.split("[,;]", text))
    if last is None or last.code.display.isdigit():
        return None
    return last if all(one is None or one.names <= last.names for one in before) and before else None


def facets_of(
    reading: Reading, facets: Mapping[str, tuple[Place, ...]], resource: Json
) -> dict[str, tuple[Coding, ...]]:
    """What is said beside the code, by facet; a facet of which nothing is said is left out."""
    found = {
        name: tuple(dict.fromkeys(coding for place in places for coding in _facet(reading, place, resource)))
        for name, places in facets.items()
    }
    return {name: codings for name, codings in found.items() if codings}


def _facet(reading: Reading, place: Place, resource: Json) -> Iterator[Coding]:
    for whole in found_at(reading, place, resource):
        parts = [whole] if place.inner is None else flat(place.inner(whole))
        mates = [] if place.beside is None else flat(place.beside(whole))
        beside = frozenset(name for mate in mates for one in answers_of(reading, mate, place.system) for name in one.names)
        for value in parts:
            for coding in answers_of(reading, value, place.system) or not_understood(value):
                yield replace(coding, beside=beside) if beside else coding


def not_understood(value: object) -> list[Coding]:
    """A text that no dictionary has: something is said, so that it must not count as missing."""
    text = text_of(value)
    return [Coding(Code(None, "", display=text))] if text else []


def absent_reason(value: Json) -> str:
    """Why a value is not there, where an element says so itself; else an empty text."""
    extensions = objects(value.get("extension"))
    return next((string(e.get("valueCode")) or "unknown" for e in extensions if e.get("url") == _ABSENT_EXTENSION), "")
