"""How whole charts come from a server: whose, in which portions, and what is known to be missing from them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from fhir_screen.core.gaps import Gap
from fhir_screen.errors import NoInputError, PreflightError, SafetyStop, TemporaryError, UsageError
from fhir_screen.fhir.address import same_place
from fhir_screen.fhir.assemble import SUBJECT_ELEMENTS, assemble
from fhir_screen.fhir.raw import Damage, Found, Haul, Json, RawPatient
from fhir_screen.fhir.search import (
    BY_REFERENCE,
    KEYS_PER_SEARCH,
    PATIENTS_PER_SEARCH,
    REFERRING,
    Capabilities,
    Params,
    Search,
    Unavailable,
    by_ids,
    by_link,
    chunks,
    plan,
    population,
)
from fhir_screen.fhir.server import FhirServer, Included, SearchFailed, identity

LINK_DEPTH: Final = 3
"""How many steps of Patient.link are followed: a record merged into one that was merged itself, and once more."""

LINK_NOT_SEARCHED: Final = frozenset({400, 404, 405, 501})

_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}\Z")


@dataclass(frozen=True, slots=True)
class ByCodes:
    """Whoever has a Condition with one of these (system, code), each asked for exactly."""

    codes: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ByPatients:
    """These Patient ids, written "p1" or "Patient/p1"."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ByGroup:
    """The active members of Group/{id} that are patients."""

    id: str


@dataclass(frozen=True, slots=True)
class Everyone:
    """Every Patient of the server, for a population that no list of exact codes describes."""


Population = ByCodes | ByPatients | ByGroup | Everyone


@dataclass(frozen=True, slots=True)
class Progress:
    """How many charts have come, and how many will."""

    patients_done: int
    patients_total: int


def ignore(_: object) -> None:
    """For whoever wants to hear of neither progress nor damage."""


def pull(
    server: FhirServer,
    kinds: Iterable[str],
    whose: Population,
    *,
    chunk: int = PATIENTS_PER_SEARCH,
    on_progress: Callable[[Progress], None] = ignore,
    on_damage: Callable[[Damage], None] = ignore,
) -> Iterator[RawPatient]:
    """The charts of a population, whole, in the order of patient ids, one portion of patients in memory at a time.

    ``kinds`` are the resource types that the study needs. What could not be fetched is a gap of exactly the patients
    concerned; a patient who could not be read at all goes to ``on_damage``. Raises SafetyStop when an answer holds
    another patient's data, PreflightError and TemporaryError as FhirServer does.
    """
    capabilities = server.capabilities()
    searches = plan(kinds, capabilities)
    families = _families(server, capabilities, whose, on_damage)
    total, done = len(families), 0
    on_progress(Progress(0, total))
    for portion in _portions(families, min(max(chunk, 1), KEYS_PER_SEARCH)):
        yield from _charts(server, capabilities, searches, portion, on_damage)
        done += len(portion)
        on_progress(Progress(done, total))


# Who


@dataclass(frozen=True, slots=True)
class _Family:
    """Patient records that Patient.link joins, the retired among them; mostly one record alone."""

    members: tuple[str, ...]
    first: str
    gaps: tuple[Gap, ...] = ()


@dataclass(slots=True)
class _Register:
    """The Patient records seen so far: which are there, which are retired, and what joins them."""

    known: set[str] = field(default_factory=set)
    retired: set[str] = field(default_factory=set)
    links: list[tuple[str, str]] = field(default_factory=list)
    unsure: set[str] = field(default_factory=set)

    def note(self, patient: Json, base: str) -> str:
        own = str(patient.get("id"))
        self.known.add(own)
        for link in patient.get("link") or ():
            other = _patient_in(link.get("other"), base) if isinstance(link, Mapping) else None
            if other is None or not _ID.match(other) or link.get("type") not in {"replaced-by", "replaces"}:
                continue
            self.links.append((own, other))
            if link["type"] == "replaced-by":
                self.retired.add(own)
        return own

    def linked(self) -> set[str]:
        return {one for pair in self.links for one in pair}

    def families(self, ids: Iterable[str]) -> list[_Family]:
        """The families of these records, in the order of the id under which each will be screened."""
        leader = {one: one for one in self.known}

        def lead(one: str) -> str:
            while leader[one] != one:
                one = leader[one]
            return one

        for one, other in self.links:
            if one in leader and other in leader:
                leader[lead(one)] = lead(other)
        members: dict[str, list[str]] = {}
        for one in sorted(self.known):
            members.setdefault(lead(one), []).append(one)
        wanted = {lead(one) for one in ids if one in leader}
        return sorted((self._family(members[one]) for one in wanted), key=lambda family: family.first)

    def _family(self, members: list[str]) -> _Family:
        living = [one for one in members if one not in self.retired] or members
        hidden = Gap(None, detail="records merged into this one could not be looked up")
        return _Family(tuple(members), living[0], (hidden,) if self.unsure.intersection(members) else ())


def _families(
    server: FhirServer, capabilities: Capabilities, whose: Population, on_damage: Callable[[Damage], None]
) -> list[_Family]:
    register = _Register()
    match whose:
        case Everyone():
            ids = [register.note(found.resource, server.base) for found in _all(server, "Patient", [])]
        case ByCodes(codes):
            ids = _with_condition(server, codes)
        case ByGroup(group):
            ids = _group_members(server, group)
        case ByPatients(given):
            ids = [_plain_id(one) for one in given]
    ids = sorted(set(ids))
    for own, what in _look_up(server, register, [one for one in ids if one not in register.known]).items():
        on_damage(Damage(f"Patient/{own}: {what}", kind="Patient", patient=own))
    _join(server, capabilities, register)
    return register.families(ids)


def _join(server: FhirServer, capabilities: Capabilities, register: _Register) -> None:
    """Reads what is linked with the records known so far, in both directions, some steps far."""
    searchable = "link" in capabilities.parameters("Patient")
    asked_ahead: set[str] = set()
    asked_back: set[str] = set()
    for _ in range(LINK_DEPTH):
        ahead = sorted(register.linked() - register.known - asked_ahead)
        asked_ahead.update(ahead)
        failed = _look_up(server, register, ahead)
        register.unsure.update(one for pair in register.links if set(pair) & failed.keys() for one in pair)
        back = sorted(register.known - asked_back) if searchable else []
        asked_back.update(back)
        _look_back(server, register, back)


def _look_up(server: FhirServer, register: _Register, ids: Sequence[str]) -> dict[str, str]:
    """Notes these Patient records; returns why, for each that did not come."""
    missed: dict[str, str] = {}
    for part in chunks(ids, KEYS_PER_SEARCH):
        found, failures = _gather(server, "Patient", part, by_ids)
        for one in _matches(found, "Patient"):
            _must_be_asked(str(one.resource.get("id")), part, "Patient")
            register.note(one.resource, server.base)
        for own, failure in failures.items():
            if failure.final:
                raise PreflightError(failure.detail, where=server.base, remedy="without Patient nobody can be screened")
            missed[own] = failure.detail
        absent = [own for own in part if own not in register.known]
        missed = {**dict.fromkeys(absent, "not on the server, or not for us to read"), **missed}
    return {own: what for own, what in missed.items() if own not in register.known}


def _look_back(server: FhirServer, register: _Register, ids: Sequence[str]) -> None:
    """Finds the records that were merged into these, which need not say so themselves."""
    for part in chunks(ids, KEYS_PER_SEARCH):
        try:
            for found in server.search("Patient", by_link(part)):
                if not isinstance(found, Included) and _links_to(found.resource, part, server.base):
                    register.note(found.resource, server.base)
        except SearchFailed as failed:
            if failed.status not in LINK_NOT_SEARCHED:
                register.unsure.update(part)


def _links_to(patient: Json, ids: Sequence[str], base: str) -> bool:
    links = [link for link in patient.get("link") or () if isinstance(link, Mapping)]
    return any(_patient_in(link.get("other"), base) in ids for link in links)


def _with_condition(server: FhirServer, codes: Iterable[tuple[str, str]]) -> list[str]:
    asked = {_comparable(code) for _, code in codes}
    subjects = [
        patient_of(found.resource, server.base)
        for params in population(codes)
        for found in _all(server, "Condition", params)
        if asked & _codes_of(found.resource)
    ]
    return [one for one in subjects if one is not None and _ID.match(one)]


def _codes_of(condition: Json) -> set[str]:
    coded = condition.get("code")
    codings = coded.get("coding") if isinstance(coded, Mapping) else None
    return {_comparable(str(coding.get("code"))) for coding in codings or () if isinstance(coding, Mapping)}


def _comparable(code: str) -> str:
    """Servers may match without regard to case; anything wider was not asked for and is left out."""
    return code.strip().upper().replace(".", "")


def _group_members(server: FhirServer, group: str) -> list[str]:
    name = _plain_id(group, "Group")
    try:
        document = server.read(f"Group/{name}")
    except SearchFailed as failed:
        raise _cannot_tell_who(server, failed) from failed
    if document is None:
        raise NoInputError(f"Group/{name} does not exist", where=server.base, remedy="check the id of the Group")
    members = [
        one for one in document.get("member") or () if isinstance(one, Mapping) and one.get("inactive") is not True
    ]
    patients = [_patient_in(one.get("entity"), server.base) for one in members]
    return [one for one in patients if one is not None and _ID.match(one)]


def _all(server: FhirServer, kind: str, params: Params) -> Iterator[Found]:
    """Every match, or an error: of a list of patients that is not whole nobody would see what is missing."""
    try:
        for found in server.search(kind, params):
            if not isinstance(found, Included):
                yield found
    except SearchFailed as failed:
        raise _cannot_tell_who(server, failed) from failed


def _cannot_tell_who(server: FhirServer, failed: SearchFailed) -> PreflightError | TemporaryError:
    what = f"who is to be screened cannot be found out: {failed.detail}"
    if failed.overload:
        return TemporaryError(what, where=server.base, remedy="run the same command again later")
    remedy = "ask for reading and searching of it, or say whom with --patient, --group or --everyone"
    return PreflightError(what, where=server.base, remedy=remedy)


def _plain_id(reference: str, kind: str = "Patient") -> str:
    own = reference.strip().removeprefix(f"{kind}/")
    if not _ID.match(own):
        raise UsageError(f"this is no id of a {kind}", where=repr(reference[:80]), remedy="as in p1 or Patient/p1")
    return own


# What


def _portions(families: Sequence[_Family], size: int) -> Iterator[list[_Family]]:
    """Families whole, with as many records at a time as one search may name."""
    portion: list[_Family] = []
    for family in families:
        if portion and sum(len(one.members) for one in portion) + len(family.members) > size:
            yield portion
            portion = []
        portion.append(family)
    if portion:
        yield portion


def _charts(
    server: FhirServer,
    capabilities: Capabilities,
    searches: Sequence[Search | Unavailable],
    portion: Sequence[_Family],
    on_damage: Callable[[Damage], None],
) -> list[RawPatient]:
    ids = [member for family in portion for member in family.members]
    found, gaps = _patients(server, ids)
    for search in searches:
        match search:
            case Unavailable(kind, detail):
                _add(gaps, ids, Gap(kind, detail=detail))
            case Search(kind):
                came, failures = _gather(server, kind, ids, search.params)
                found += _matches(came, kind)
                for own, failure in failures.items():
                    _add(gaps, [own], Gap(kind, detail=failure.detail))
    found += _referenced(server, capabilities, found, gaps)
    patients, damage = assemble(Haul(found=found))
    told = {one.patient for one in damage}
    untold = [family for family in portion if told.isdisjoint(family.members)]
    for one in [*damage, *_unscreened(patients, untold, gaps)]:
        on_damage(one)
    return sorted((_with_gaps(raw, portion, gaps) for raw in patients), key=lambda raw: raw.id)


_Gaps = dict[str, dict[Gap, None]]


def _add(gaps: _Gaps, ids: Iterable[str], gap: Gap) -> None:
    for own in ids:
        gaps.setdefault(own, {})[gap] = None


def _with_gaps(raw: RawPatient, portion: Sequence[_Family], gaps: _Gaps) -> RawPatient:
    """A hole in a retired record is one in the record of the survivor, too."""
    family = next((one for one in portion if raw.id in one.members), _Family((raw.id,), raw.id))
    known = {gap: None for own in family.members for gap in gaps.get(own, ())}
    return replace(raw, gaps=tuple(dict.fromkeys([*raw.gaps, *family.gaps, *known])))


def _unscreened(patients: Iterable[RawPatient], portion: Sequence[_Family], gaps: _Gaps) -> Iterator[Damage]:
    """Everybody who was to be screened has a chart, or is told here: nobody vanishes between two questions."""
    screened = {raw.id for raw in patients}
    for family in portion:
        if screened.isdisjoint(family.members):
            causes = [gap.detail for own in family.members for gap in gaps.get(own, ()) if gap.kind is None]
            what = causes[0] if causes else "replaced by a record that is not at hand"
            yield Damage(f"Patient/{family.first}: {what}", kind="Patient", patient=family.first)


def _patients(server: FhirServer, ids: Sequence[str]) -> tuple[list[Found], _Gaps]:
    """The Patient resources of a portion; of a record that does not come again, anything may be missing."""
    found, failures = _gather(server, "Patient", ids, by_ids)
    patients = _matches(found, "Patient")
    for one in patients:
        _must_be_asked(str(one.resource.get("id")), ids, "Patient")
    came = {str(one.resource.get("id")) for one in patients}
    gaps: _Gaps = {}
    for own in ids:
        if own not in came:
            what = failures[own].detail if own in failures else "vanished while it was being read"
            _add(gaps, [own], Gap(None, detail=what))
        elif own in failures:
            _add(gaps, [own], Gap("Patient", detail=failures[own].detail))
    return patients, gaps


def _gather(
    server: FhirServer, kind: str, keys: Sequence[str], params: Callable[[Sequence[str]], Params]
) -> tuple[list[Found], dict[str, SearchFailed]]:
    """What came for these patients (or ids), and for whom of them it is not all.

    A portion that failed is halved until the failure stands alone, unless the type itself is closed to us.
    """
    found: dict[tuple[str, str, str], Found] = {}
    try:
        for one in server.search(kind, params(keys)):
            _must_be_theirs(one, kind, keys, server.base)
            found[identity(one.resource)] = one
    except SearchFailed as failed:
        if failed.overload:
            server.still_there()
        if failed.final or len(keys) == 1:
            return list(found.values()), dict.fromkeys(keys, failed)
        failures: dict[str, SearchFailed] = {}
        for half in (keys[: len(keys) // 2], keys[len(keys) // 2 :]):
            came, missed = _gather(server, kind, half, params)
            found.update((identity(one.resource), one) for one in came)
            failures.update(missed)
        return list(found.values()), failures
    return list(found.values()), {}


def _matches(found: Iterable[Found], kind: str) -> list[Found]:
    return [one for one in found if not isinstance(one, Included) and one.resource["resourceType"] == kind]


def _must_be_theirs(found: Found, kind: str, keys: Sequence[str], base: str) -> None:
    """A match of a search by patient must be about one of the patients asked for; what came along need not."""
    if isinstance(found, Included) or kind in BY_REFERENCE or kind == "Patient":
        return
    whose = patient_of(found.resource, base)
    if whose is not None:
        _must_be_asked(whose, keys, kind)


def _must_be_asked(own: str, asked: Sequence[str], kind: str) -> None:
    if own in asked:
        return
    elsewhere = f", at another address ({own.rpartition('/Patient/')[0]})" if "/" in own else ""
    raise SafetyStop(
        f"another patient's data in an answer: a search of {kind} returned somebody not asked for{elsewhere}",
        remedy="the server ignores or widens the search, or calls itself by another address than the one given; "
        "nothing of this answer was used",
    )


def patient_of(resource: Json, base: str) -> str | None:
    """The id of the Patient whom a resource says it is about, on this base; a Patient elsewhere is a whole URL.

    None where it names no Patient by reference: then it may yet do so by identifier (rule R19).
    """
    for element in SUBJECT_ELEMENTS:
        whose = _patient_in(resource.get(element), base)
        if whose is not None:
            return whose
    return None


def _patient_in(reference: object, base: str) -> str | None:
    target = _target(reference, base)
    kind, _, own = target.rpartition("/")
    if kind == "Patient":
        return own
    return target if kind.endswith("/Patient") else None


def _target(reference: object, base: str) -> str:
    """What a Reference points to: Type/id on this base, without version; a whole URL elsewhere; empty where nothing."""
    literal = reference.get("reference") if isinstance(reference, Mapping) else None
    if not isinstance(literal, str):
        return ""
    target = literal.partition("/_history/")[0]
    where, slash, own = target.rpartition("/")
    there, between, kind = where.rpartition("/")
    return f"{kind}{slash}{own}" if between and same_place(there, base) else target


# What it points to


def _referenced(server: FhirServer, capabilities: Capabilities, found: Sequence[Found], gaps: _Gaps) -> list[Found]:
    """Drugs and studies that the found resources point to; whoever's cannot be had gets a gap in what points there."""
    here = {_name(one.resource) for one in found}
    wanted: dict[str, set[tuple[str, str]]] = {}
    for one in found:
        own = patient_of(one.resource, server.base)
        kind = str(one.resource["resourceType"])
        if own is not None and kind in REFERRING:
            for target in _targets(one.resource, server.base):
                wanted.setdefault(target, set()).add((own, kind))
    fetched: list[Found] = []
    details: dict[str, str] = {}
    for _ in range(LINK_DEPTH):  # a drug may be made of drugs
        missing = sorted(target for target in wanted if target not in here and target not in details)
        if not missing:
            break
        came = _fetch(server, capabilities, missing, details)
        fetched += came
        here.update(_name(one.resource) for one in came)
        for one in came:
            for target in _targets(one.resource, server.base):
                wanted.setdefault(target, set()).update(wanted.get(_name(one.resource), ()))
    for target, owners in sorted(wanted.items()):
        if target in here:
            continue
        for own, kind in sorted(owners):
            detail = details.get(target, "not followed further")
            _add(gaps, [own], Gap(kind, detail=f"what a {kind} points to is missing: {detail}"))
    return fetched


def _fetch(
    server: FhirServer, capabilities: Capabilities, targets: Sequence[str], details: dict[str, str]
) -> list[Found]:
    """Reads "Type/id" targets type by type; for each that did not come, ``details`` gets the reason."""
    came: list[Found] = []
    for kind in sorted(BY_REFERENCE):
        ids = [own for where, _, own in (target.rpartition("/") for target in targets) if where == kind]
        ids = [own for own in ids if _ID.match(own)]
        if ids and not capabilities.searches(kind):
            details.update((f"{kind}/{own}", f"the server does not offer {kind}") for own in ids)
            continue
        for part in chunks(ids, KEYS_PER_SEARCH):
            found, failures = _gather(server, kind, part, by_ids)
            came += [one for one in found if _name(one.resource) in targets]
            details.update((f"{kind}/{own}", failure.detail) for own, failure in failures.items())
    got = {_name(one.resource) for one in came}
    for target in targets:
        if target not in got:
            details.setdefault(target, f"{_kind_in(target)} not on the server")
        else:
            details.pop(target, None)
    return came


def _targets(node: object, base: str) -> Iterator[str]:
    """References, at any depth, to types that are fetched by id; those to other servers too, which lead nowhere."""
    if isinstance(node, Mapping):
        target = _target(node, base)
        if _kind_in(target) in BY_REFERENCE:
            yield target
        for value in node.values():
            yield from _targets(value, base)
    elif isinstance(node, list):
        for value in node:
            yield from _targets(value, base)


def _kind_in(target: str) -> str:
    return target.rpartition("/")[0].rpartition("/")[2]


def _name(resource: Json) -> str:
    return f"{resource.get('resourceType')}/{resource.get('id')}"
