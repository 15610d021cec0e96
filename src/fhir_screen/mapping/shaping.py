"""Compiles `resources.yaml`, with a site's overlay on top, into shapes: every path is parsed here, once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fhir_screen.core.truth import Truth
from fhir_screen.mapping.documents import (
    DosesDoc,
    OngoingDoc,
    PartDoc,
    PlaceDoc,
    RangesDoc,
    ResourceDoc,
    ResourcesDoc,
    StatusDoc,
    ValueDoc,
)
from fhir_screen.mapping.paths import Path, PathError, compiled
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
from fhir_screen.mapping.validation import validated
from fhir_screen.mapping.yamlfile import Document, Steps, one_of


def compile_shapes(document: Document, overlay: Document | None = None) -> Shapes:
    """``overlay`` is a site file whose `resources` replace what they name, key by key."""
    doc = validated(ResourcesDoc, document)
    kinds = {kind: _Compiler(document, ("resources", kind)).resource(kind, r) for kind, r in doc.resources.items()}
    person = PersonShape(
        *(_Compiler(document, ("Patient",)).places(getattr(doc.Patient, n), (n,)) for n in ("born", "sex", "died", "death"))
    )
    if overlay is not None:
        kinds |= dict(_overlaid(document, overlay))
    return Shapes(person, kinds)


def _overlaid(base: Document, overlay: Document) -> Iterable[tuple[str, ResourceShape]]:
    known = base.content["resources"]
    for kind, changes in (overlay.content.get("resources") or {}).items():
        steps: Steps = ("resources", kind)
        if kind not in known:
            raise overlay.error(f"unknown resource type {kind!r}", steps, one_of(kind, "resource types", known))
        merged = _merged(known[kind], changes)
        doc = validated(ResourceDoc, overlay, merged, steps)
        yield kind, _Compiler(overlay, steps).resource(kind, doc)


def _merged(below: Any, above: Any) -> Any:
    if isinstance(below, Mapping) and isinstance(above, Mapping):
        return {**below, **{key: _merged(below.get(key), value) for key, value in above.items()}}
    return above


class _Compiler:
    """Knows the document and the place in it, so that a bad path is reported with its line."""

    def __init__(self, document: Document, steps: Steps) -> None:
        self.document, self.steps = document, steps

    def path(self, text: str, steps: Steps) -> Path:
        try:
            return compiled(text)
        except PathError as cause:
            remedy = "write e.g. $.valueQuantity.value or $.extension[?(@.url == 'x')].valueString"
            raise self.document.error(f"bad path {text!r}: {cause}", (*self.steps, *steps), remedy) from cause

    def place(self, doc: PlaceDoc, steps: Steps) -> Place:
        return Place(
            self.path(doc.path, steps),
            self.path(doc.through, steps) if doc.through else None,
            self.path(doc.then, steps) if doc.then else None,
            doc.reported_by,
            self.path(doc.via, steps) if doc.via else None,
            Take(doc.take),
            doc.flag,
            doc.system,
            self.path(doc.inner, steps) if doc.inner else None,
            self.path(doc.beside, steps) if doc.beside else None,
        )

    def places(self, docs: Iterable[PlaceDoc], steps: Steps) -> tuple[Place, ...]:
        return tuple(self.place(doc, (*steps, n)) for n, doc in enumerate(docs))

    def facets(self, docs: Mapping[str, tuple[PlaceDoc, ...]], steps: Steps) -> dict[str, tuple[Place, ...]]:
        return {name: self.places(places, (*steps, name)) for name, places in docs.items()}

    def resource(self, kind: str, doc: ResourceDoc) -> ResourceShape:
        return ResourceShape(
            kind,
            self.places(doc.code, ("code",)),
            self.places(doc.text, ("text",)),
            self.places(doc.when, ("when",)),
            self.places(doc.start, ("start",)),
            self.places(doc.end, ("end",)),
            self.places(doc.recorded, ("recorded",)),
            self.places(doc.asserted, ("asserted",)),
            self.places(doc.supply, ("supply",)),
            (doc.newest.of, doc.newest.by) if doc.newest else None,
            tuple(self.path(text, ("about_others", n)) for n, text in enumerate(doc.about_others)),
            {facet: frozenset(names) for facet, names in doc.not_when.items()},
            frozenset(doc.contains),
            tuple(self.status(test, ("status", n)) for n, test in enumerate(doc.status)),
            tuple(self.path(text, ("states", n)) for n, text in enumerate(doc.states)),
            self.ongoing(doc.ongoing) if doc.ongoing else None,
            self.value(doc.value, ("value",)) if doc.value else None,
            self.ranges(doc.ranges, ("ranges",)) if doc.ranges else None,
            self.part(doc.components) if doc.components else None,
            self.doses(doc.doses) if doc.doses else None,
            self.facets(doc.facets, ("facets",)),
            self.facets(doc.links, ("links",)),
            doc.rank,
            frozenset(doc.flags),
            frozenset(doc.also),
        )

    def status(self, doc: StatusDoc, steps: Steps) -> StatusTest:
        says = {code.lower(): said for said in Said for code in getattr(doc, said.value)}
        paths = tuple(self.path(one, (*steps, "path")) for one in doc.path)
        return StatusTest(paths, says, Said(doc.otherwise), Said(doc.missing), doc.flag, doc.missing_flag)

    def ongoing(self, doc: OngoingDoc) -> Going:
        ended = self.path(doc.no_when, ("ongoing", "no_when")) if doc.no_when else None
        missing = {"yes": Truth.TRUE, "no": Truth.FALSE, "unknown": Truth.UNKNOWN}[doc.missing]
        paths = tuple(self.path(one, ("ongoing", "path")) for one in doc.path)
        return Going(paths, frozenset(doc.yes), frozenset(doc.no), ended, missing)

    def value(self, doc: ValueDoc, steps: Steps) -> ValueShape:
        return ValueShape(*(self.places(getattr(doc, name), (*steps, name)) for name in ValueDoc.model_fields))

    def ranges(self, doc: RangesDoc, steps: Steps) -> RangesShape:
        return RangesShape(*(self.path(getattr(doc, name), (*steps, name)) for name in RangesDoc.model_fields))

    def part(self, doc: PartDoc) -> PartShape:
        steps: Steps = ("components",)
        return PartShape(
            self.path(doc.at, (*steps, "at")),
            self.places(doc.code, (*steps, "code")),
            self.places(doc.text, (*steps, "text")),
            self.value(doc.value, (*steps, "value")) if doc.value else None,
            self.ranges(doc.ranges, (*steps, "ranges")) if doc.ranges else None,
            self.facets(doc.facets, (*steps, "facets")),
        )

    def doses(self, doc: DosesDoc) -> DosesShape:
        def paths(name: str) -> tuple[Path, ...]:
            return tuple(self.path(text, ("doses", name, n)) for n, text in enumerate(getattr(doc, name)))

        return DosesShape(
            self.path(doc.at, ("doses", "at")),
            paths("amount"), paths("repeat"), paths("timing_code"), paths("as_needed"), paths("maximum"), doc.single,
        )  # fmt: skip
