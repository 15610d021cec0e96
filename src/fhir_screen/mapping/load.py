"""Loads a mappings folder and a site file into a study: everything compiled and cross-checked before any patient is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fhir_screen.core import rules as core
from fhir_screen.core.decision import AtomClass, ClosedStudies, Role, TrialIdentity
from fhir_screen.core.trials import Atom, Criterion, Trial
from fhir_screen.core.walk import atoms_in, kinds_of
from fhir_screen.errors import MappingError, UsageError
from fhir_screen.mapping.anchors import anchor_day
from fhir_screen.mapping.documents import AtomDoc, CriterionDoc, LibraryDoc, ParameterDoc, SiteDoc, TrialDoc
from fhir_screen.mapping.mistakes import Collected
from fhir_screen.mapping.rules import compile_rule
from fhir_screen.mapping.scope import Scope, Shared
from fhir_screen.mapping.shapes import ResourceShape, Shapes
from fhir_screen.mapping.shaping import compile_shapes
from fhir_screen.mapping.validation import validated
from fhir_screen.mapping.vocabulary import Terms, compile_terms
from fhir_screen.mapping.yamlfile import Document, Steps, did_you_mean, one_of, read_yaml

_CLOSED = frozenset({"completed", "terminated", "withdrawn", "suspended"})


@dataclass(frozen=True, slots=True)
class Site:
    """What a hospital says about itself: its name in identities, its time zone, its policies."""

    id: str = "default"
    zone: str = ""
    closed_studies: ClosedStudies = ClosedStudies.OBSERVATION_ONLY
    anchors: Mapping[str, date] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Study:
    """All that a night needs to know: trials, vocabulary, shapes and site."""

    trials: tuple[Trial, ...]
    terms: Terms
    shapes: Shapes
    site: Site

    @property
    def kinds(self) -> frozenset[str]:
        """The resource types that the trials' rules look at, and those that tell whether silence means no (rule R4)."""
        ruled = frozenset[str]().union(*(kinds_of(trial) for trial in self.trials))
        also = frozenset[str]().union(*(self.shapes.resources[kind].also for kind in ruled if kind in self.shapes.resources))
        return ruled | also | {"Encounter", "Condition"}

    def zone(self, trial: Trial) -> ZoneInfo:
        return _zone(self.site.zone) if self.site.zone else ZoneInfo(str(trial.zone))


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
    shared = _content([systems, analytes, units, words, resources, *concepts, *rules, *of_site])
    compiled: list[Trial] = []
    for document in documents:
        with mistakes.part():
            compiled.append(_trial(document, terms, shapes.resources, library, derived, overrides, site_doc, shared))
    mistakes.tell()
    return Study(tuple(compiled), terms, shapes, own)


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
    if refused := _refused(name, value, known[name]):
        raise document.error(refused[0], where, refused[1])


def _refused(name: str, value: str, parameter: ParameterDoc) -> tuple[str, str] | None:
    """What is wrong with the value of a parameter, and a remedy."""
    if parameter.choices and value not in parameter.choices:
        return f"{name}={value} is not possible", one_of(value, "choices", parameter.choices)
    if name.endswith("_days") and not (value.isdigit() or value == "unset"):
        return f"{name}={value} is not a number of days", f"write e.g. {name}=28"
    if name == "min_condition_count" and not value.isdigit():
        return f"{name}={value} is not a number of days", f"write e.g. {name}=2"
    return None


def _trial(
    document: Document, terms: Terms, shapes: Mapping[str, ResourceShape], library: Mapping[str, Shared],
    derived: Mapping[str, Shared], overrides: Mapping[str, str], site: SiteDoc, shared: str,
) -> Trial:  # fmt: skip
    doc = validated(TrialDoc, document)
    parameters = _parameters(document, doc, overrides)
    own = {name: Shared(document, ("derived", name), document.content["derived"][name]) for name in doc.derived}
    ids = _atom_ids(document, doc)
    scope = Scope(document, (), terms, shapes, parameters, frozenset(ids), library, {**derived, **own})
    compiled: list[Criterion] = []
    mistakes = Collected()
    for id_, criterion in doc.criteria.items():
        with mistakes.part():
            compiled.append(_criterion(scope.at("criteria", id_), id_, criterion, site))
    mistakes.tell()
    criteria = tuple(compiled)
    if doc.population not in ids:
        raise document.error(f"unknown atom {doc.population!r}", ("population",), one_of(doc.population, "atoms", ids))
    _check_cycles(document, criteria)
    _check_read(document, doc, scope.used | _READ_HERE)
    effective = hashlib.sha256(repr((shared, _content([document]), sorted(parameters.items()))).encode()).hexdigest()
    identity = TrialIdentity(
        doc.trial.id, doc.version, doc.trial.title, doc.trial.status,
        doc.trial.status in _CLOSED, ((doc.trial.system, doc.trial.id),), effective,
    )  # fmt: skip
    depth = parameters.get("closed_world_min_depth_days", "unset")
    return Trial(
        identity, doc.population, criteria, _zone(doc.time_zone, document), frozenset({doc.trial.id, *doc.trial.names}),
        parameters, int(depth) if depth.isdigit() else None, parameters.get("use_preliminary") == "true",
    )  # fmt: skip


_READ_HERE: Final = frozenset({"closed_world_min_depth_days", "min_condition_count", "use_preliminary", "window_bound"})
"""Parameters that mean something wherever they are declared; all others are read by the rules that name them."""


def _check_read(document: Document, doc: TrialDoc, read: Collection[str]) -> None:
    """A parameter that nobody reads promises a choice that there is not."""
    mistakes = Collected()
    for name, parameter in doc.parameters.items():
        with mistakes.part():
            if name not in read and not parameter.without_effect:
                remedy = f"name it in a rule as ${name}, take it out, or say `without_effect: \"yes\"`"
                raise document.error(f"no rule reads the parameter {name!r}", ("parameters", name), remedy)
    mistakes.tell()


def _atom_ids(document: Document, doc: TrialDoc) -> dict[str, str]:
    """The atoms of a trial, each with its criterion."""
    ids: dict[str, str] = {}
    for criterion, one in doc.criteria.items():
        for id_ in one.atoms:
            if id_ in ids:
                steps = ("criteria", criterion, "atoms", id_)
                raise document.error(f"atom {id_!r} is defined twice", steps, f"{ids[id_]} has it already: rename one")
            ids[id_] = criterion
    return ids


def _parameters(document: Document, doc: TrialDoc, overrides: Mapping[str, str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for name, parameter in doc.parameters.items():
        value = overrides.get(name, parameter.default)
        if refused := _refused(name, value, parameter):
            raise UsageError(refused[0], where=document.where(("parameters", name)), remedy=refused[1])
        values[name] = value
    return values


def _criterion(scope: Scope, id_: str, doc: CriterionDoc, site: SiteDoc) -> Criterion:
    ruled = replace(scope, least_conditions=_least_conditions(scope, doc))
    atoms = tuple(_atom(ruled.at("atoms", a), a, atom, site) for a, atom in doc.atoms.items())
    if doc.logic is None:
        if len(atoms) != 1:
            raise scope.error("several atoms need a formula", "add `logic:`")
        formula: core.Rule = core.AtomRef(atoms[0].id)
    else:
        formula = compile_rule(scope.at("logic"), scope.document.content["criteria"][id_]["logic"])
    named = atoms_in(formula) | _named_in(scope.document.content["criteria"][id_].get("logic"))
    missing = [a for a, atom in doc.atoms.items() if atom.role_in_formula == "decides" and a not in named]
    if missing:
        raise scope.at("logic").error(
            f"atom {missing[0]!r} is missing from the formula", "add it to `logic:`, or say `role_in_formula: shown`"
        )
    if doc.for_each:
        _check_instances(scope.at("for_each"), doc.for_each, atoms)
    return Criterion(id_, Role(doc.role), doc.text, atoms, formula, doc.for_each or None, doc.text_ko)


def _least_conditions(scope: Scope, doc: CriterionDoc) -> int:
    """Only exclusions are guarded against billing codes that rule a disease out (rule R6)."""
    count = scope.parameters.get("min_condition_count", "1")
    return int(count) if Role(doc.role) is Role.EXCLUSION else 1


def _check_instances(scope: Scope, named: str, atoms: Iterable[Atom]) -> None:
    each = next((a for a in atoms if a.id == named), None)
    if each is None:
        raise scope.error(f"{named!r} is not an atom of this criterion", one_of(named, "atoms here", [a.id for a in atoms]))
    try:
        core.named_instances(each.rule)
    except ValueError as cause:
        raise scope.error(f"{named!r}: {cause}", "name an atom whose rule is one `has`, or an `any` that begins with one") from cause


def _named_in(content: Any) -> frozenset[str]:
    """All words of a formula, the cases included that the parameters leave out today."""
    if isinstance(content, str):
        return frozenset({content})
    parts = content.values() if isinstance(content, dict) else content if isinstance(content, list) else ()
    return frozenset[str]().union(*(_named_in(part) for part in parts))


def _atom(scope: Scope, id_: str, doc: AtomDoc, site: SiteDoc) -> Atom:
    kind = AtomClass(doc.class_)
    raw: Any = scope.document.content
    for step in scope.steps:
        raw = raw[step]
    if kind is AtomClass.MANUAL:
        if doc.rule is not None or not doc.ask:
            raise scope.error("a manual atom asks a person", "write `ask:` and no `rule:`")
        rule: core.Rule = core.Ask(doc.ask)
    elif doc.rule is None:
        raise scope.error("an atom that is not manual needs a rule", "add `rule:`")
    else:
        here = replace(scope.at("rule"), proxy=kind is AtomClass.PROXY, absence=site.absence_policy.get(id_, ""))
        rule = compile_rule(here, raw["rule"])
    guard = compile_rule(scope.at("asked_when"), raw["asked_when"]) if doc.asked_when is not None else None
    hints = tuple(
        core.Hint(h.text, compile_rule(scope.at("hints", n, "when"), raw["hints"][n]["when"]) if h.when else None)
        for n, h in enumerate(doc.hints)
    )
    return Atom(id_, doc.text, kind, rule, guard, hints, doc.text_ko, doc.ask_ko)


def _check_cycles(document: Document, criteria: Sequence[Criterion]) -> None:
    uses = {
        a.id: atoms_in(a.rule) | (atoms_in(a.asked_when) if a.asked_when else frozenset()) for c in criteria for a in c.atoms
    }
    for start in uses:
        seen: set[str] = set()
        queue = list(uses[start])
        while queue:
            atom = queue.pop()
            if atom == start:
                steps = next(("criteria", c.id, "atoms", start) for c in criteria if start in {a.id for a in c.atoms})
                raise document.error(f"atom {start!r} depends on itself", steps, "break the circle")
            if atom not in seen:
                seen.add(atom)
                queue += uses.get(atom, ())


def _zone(name: str, document: Document | None = None) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as cause:
        where = document.where(("time_zone",)) if document else ""
        raise MappingError(f"unknown time zone {name!r}", where=where, remedy="e.g. Asia/Seoul") from cause


def _site(document: Document | None, doc: SiteDoc) -> Site:
    if doc.time_zone:
        _zone(doc.time_zone, document)
    closed = ClosedStudies.CANDIDATES_TOO if doc.write_closed_studies else ClosedStudies.OBSERVATION_ONLY
    anchors = {
        name: anchor_day(name, text, document.where(("anchors", name)) if document else "") for name, text in doc.anchors.items()
    }
    return Site(doc.site, doc.time_zone, closed, anchors)


def _content(documents: Iterable[Document]) -> str:
    """One hash of what may change an answer: neither comments nor layout, and nothing that is only said of it."""
    digest = hashlib.sha256()
    for document in documents:
        digest.update(json.dumps(_telling(document.content), ensure_ascii=False).encode())
    return digest.hexdigest()


_SAID_OF_IT = frozenset({"about", "note", "text_ko", "ask_ko", "label"})


def _telling(content: Any) -> Any:
    match content:
        case dict():
            return {key: _telling(value) for key, value in content.items() if key not in _SAID_OF_IT}
        case list():
            return [_telling(value) for value in content]
        case _:
            return content
