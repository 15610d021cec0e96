"""Loads a mappings folder and a site file into a study: everything compiled and cross-checked before any patient is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fhir_screen.core.decision import ClosedStudies
from fhir_screen.core.trials import Trial
from fhir_screen.errors import UsageError
from fhir_screen.mapping.anchors import anchor_day
from fhir_screen.mapping.digest import digest_of
from fhir_screen.mapping.documents import LibraryDoc, ParameterDoc, SiteDoc, TrialDoc
from fhir_screen.mapping.mistakes import Collected
from fhir_screen.mapping.scope import Scope, Shared
from fhir_screen.mapping.shapes import Shapes
from fhir_screen.mapping.shaping import compile_shapes
from fhir_screen.mapping.study import Site, Study, zone_of
from fhir_screen.mapping.trials import compile_trial, refused, spelled
from fhir_screen.mapping.validation import validated
from fhir_screen.mapping.vocabulary import OF_THE_CORE, compile_terms
from fhir_screen.mapping.yamlfile import Document, Steps, did_you_mean, one_of, read_yaml


def packaged_mappings() -> Path:
    """The mappings that came with the package; in a source tree, the folder at its top level."""
    inside = Path(__file__).parent.parent / "mappings"
    return inside if inside.is_dir() else Path(__file__).parents[3] / "mappings"


def load(
    mappings: Path | None = None,
    site_file: Path | None = None,
    trials: Sequence[str] = (),
    settings: Mapping[str, str] | None = None,
) -> Study:
    """Loads and checks everything. ``settings`` override parameters.

    ``trials`` are registry numbers; none: those the site takes part in, where it says so, else all.

    Raises MappingError with file, line and remedy; UsageError for a trial or parameter that does not exist.
    """
    folder = _folder(mappings)
    site_document = read_yaml(site_file) if site_file else None
    site_doc = validated(SiteDoc, site_document) if site_document else SiteDoc()
    site = (site_document, site_doc) if site_document else None
    included = [] if site_document is None else [_included(site_document, name) for name in site_doc.include]
    systems, analytes, units, words, resources = (
        read_yaml(folder / f"{name}.yaml") for name in ("systems", "analytes", "units", "words", "resources")
    )
    concepts, rules = ([read_yaml(path) for path in _yaml(folder / name)] for name in ("concepts", "rules"))
    by_id = _by_id(folder)
    mistakes = Collected()
    with mistakes.part():
        own = _site(site_document, site_doc)
    if site is not None:
        with mistakes.part():
            _check_site(by_id, *site)
    with mistakes.part():
        terms = compile_terms(systems, concepts, analytes, units, words, site, included)
    mistakes.tell()
    shapes = compile_shapes(resources, site_document)
    _check_types(concepts, shapes)
    library, derived = _library(rules)
    documents = _chosen(by_id, trials or site_doc.studies, folder)
    overrides = {**site_doc.parameters, **(settings or {})}
    _check_settings(documents, settings or {})
    of_site = [*([site_document] if site_document else []), *(document for document, _ in included)]
    shared = digest_of([systems, analytes, units, words, resources, *concepts, *rules, *of_site])
    compiled: list[Trial] = []
    asked_for = set(OF_THE_CORE)
    for document in documents:
        with mistakes.part():
            scope = Scope(document, (), terms, shapes.resources, {}, library=library, derived=derived, asked_for=asked_for)
            compiled.append(compile_trial(scope, overrides, site_doc, shared))
    mistakes.tell()
    return Study(tuple(compiled), terms, shapes, own, frozenset(asked_for))


def _included(site: Document, name: str) -> tuple[Document, SiteDoc]:
    document = read_yaml(site.path.parent / name)
    doc = validated(SiteDoc, document)
    if extra := set(document.content) - {"codes", "units"}:
        what = f"an included file holds codes and units alone (found {min(extra)!r})"
        raise document.error(what, (min(extra),), "put it into the site file")
    return document, doc


def _check_types(concepts: Iterable[Document], shapes: Shapes) -> None:
    """Concepts are found in types that `resources.yaml` can read."""
    for document in concepts:
        named: list[tuple[Steps, Any]] = [(("found_in",), document.content["found_in"])]
        entries = document.content["concepts"].items()
        named += [(("concepts", name, "found_in"), entry["found_in"]) for name, entry in entries if "found_in" in entry]
        for steps, kinds in named:
            for kind in [kinds] if isinstance(kinds, str) else kinds:
                if kind not in shapes.resources:
                    raise document.error(f"unknown resource type {kind!r}", steps, one_of(kind, "resource types", shapes.resources))


def _yaml(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*.yaml")) if folder.is_dir() else []


def _library(documents: Iterable[Document]) -> tuple[dict[str, Shared], dict[str, Shared]]:
    rules: dict[str, Shared] = {}
    derived: dict[str, Shared] = {}
    for document in documents:
        doc = validated(LibraryDoc, document)
        for key, table, named in (("rules", rules, doc.rules), ("derived", derived, doc.derived)):
            for name in named:
                if name in table:
                    raise document.error(f"{name!r} is defined twice", (key, name), "rename one")
                table[name] = Shared(document, (key, name), document.content[key][name])
    return rules, derived


def trials_of(mappings: Path | None) -> tuple[str, ...]:
    """The registry numbers of all trials under a folder, whichever of them a site takes part in."""
    return tuple(_by_id(_folder(mappings)))


def _folder(mappings: Path | None) -> Path:
    folder = mappings or packaged_mappings()
    if not folder.is_dir():
        raise UsageError(f"there is no mappings folder {folder}", remedy="check --mappings")
    return folder


def _by_id(folder: Path) -> dict[str, Document]:
    by_id: dict[str, Document] = {}
    for document in map(read_yaml, _yaml(folder / "trials")):
        trial = validated(TrialDoc, document).trial.id
        if trial in by_id:
            raise document.error(f"trial {trial} is defined twice", ("trial", "id"), f"see {by_id[trial].path}")
        by_id[trial] = document
    if not by_id:
        raise UsageError(f"there is no trial under {folder / 'trials'}", remedy="add trials/<registry number>.yaml")
    return by_id


def _chosen(by_id: Mapping[str, Document], wanted: Sequence[str], folder: Path) -> list[Document]:
    for trial in wanted:
        if trial not in by_id:
            raise UsageError(f"no trial {trial!r} under {folder}", remedy=_known_trial(trial, by_id))
    return [by_id[trial] for trial in sorted(set(wanted) or by_id)]


def _known_trial(trial: str, by_id: Mapping[str, Document]) -> str:
    return one_of(trial, "trials here", by_id)


def _check_settings(screened: Iterable[Document], settings: Mapping[str, str]) -> None:
    known = {name for document in screened for name in validated(TrialDoc, document).parameters}
    for name in settings:
        if name not in known:
            raise UsageError(f"no screened trial has a parameter {name!r}", remedy=one_of(name, "parameters", known))


def _check_site(by_id: Mapping[str, Document], document: Document, site: SiteDoc) -> None:
    """A site file serves all trials, so that it may name what a trial not screened today has."""
    mistakes = Collected()
    for number, trial in enumerate(site.studies):
        with mistakes.part():
            if trial not in by_id:
                raise document.error(f"no trial {trial!r} in the mappings", ("studies", number), _known_trial(trial, by_id))
    trials = [validated(TrialDoc, one) for one in by_id.values()]
    parameters = {name: parameter for trial in trials for name, parameter in trial.parameters.items()}
    atoms = {id_: atom for trial in trials for criterion in trial.criteria.values() for id_, atom in criterion.atoms.items()}
    for name, value in site.parameters.items():
        with mistakes.part():
            _check_parameter(document, name, value, parameters)
    for name, policy in site.absence_policy.items():
        with mistakes.part():
            if name not in atoms:
                remedy = did_you_mean(name, atoms) or f"atoms: {', '.join(sorted(atoms)[:3])}, … (docs/clinical.md lists them)"
                raise document.error(f"unknown atom {name!r}", ("absence_policy", name), remedy)
            if policy == "closed" and atoms[name].never_closed:
                what = f"silence is never a no for {name}: such records are often withheld"
                raise document.error(what, ("absence_policy", name), "leave it out, or write unknown")
    mistakes.tell()


def _check_parameter(document: Document, name: str, value: str, known: Mapping[str, ParameterDoc]) -> None:
    where = ("parameters", name)
    if name not in known:
        remedy = did_you_mean(name, known) or "docs/clinical.md lists them"
        raise document.error(f"no trial has a parameter {name!r}", where, remedy)
    if wrong := refused(name, spelled(value, known[name]), known[name]):
        raise document.error(wrong[0], where, wrong[1])


def _site(document: Document | None, doc: SiteDoc) -> Site:
    if doc.time_zone:
        zone_of(doc.time_zone, document)
    closed = ClosedStudies.CANDIDATES_TOO if doc.write_closed_studies else ClosedStudies.OBSERVATION_ONLY
    anchors = {
        name: anchor_day(name, text, document.where(("anchors", name)) if document else "") for name, text in doc.anchors.items()
    }
    return Site(doc.site, doc.time_zone, closed, anchors)
