"""Whose each resource is, and which version of it speaks (rules R4 and R19)."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from functools import cached_property, lru_cache
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl

import orjson

from fhir_screen.core.dates import Span
from fhir_screen.core.gaps import Gap
from fhir_screen.fhir.address import base_key
from fhir_screen.fhir.datatypes import objects
from fhir_screen.fhir.raw import Damage, Deletion, Found, Haul, Json, RawPatient

SUBJECT_ELEMENTS: Final = ("subject", "patient", "individual")
"""Where R4 and R5 resources say whose they are: `individual` is that of an R4 ResearchSubject."""

NOBODYS: Final = frozenset({"Patient", "RelatedPerson", "Person", "Group", "List", "Bundle", "OperationOutcome"})
"""Types that are no part of anybody's chart, though some name a patient."""

DEATH: Final = ("deceasedBoolean", "deceasedDateTime")

NAMED_AT_MOST: Final = 5
"""How many ids one message lists."""

_LITERAL = re.compile(r"(?:(https?://[^?#|\s]+?)/)?([A-Z][A-Za-z]+)/([^/?#|\s]+)/?\Z")
_HISTORY = re.compile(r"/_history/[^/?#\s]*\Z")
_DIGITS = re.compile(r"[0-9]{1,18}\Z")


class Key(NamedTuple):
    """What makes a resource the same: the base it stands on ("" where none is known), its type and its id together."""

    base: str
    kind: str
    id: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.id}"


def assemble(haul: Haul) -> tuple[list[RawPatient], list[Damage]]:
    """The charts of a source in the order of patient ids, and all that is to be told about what is not in them.

    Each damage of the haul is a gap of its patient, or of everybody; it comes back together with what shows only here:
    records that belong to nobody, patients without a Patient resource, identities that contradict each other. The
    order of what was found changes nothing.
    """
    index = _Index(haul)
    people = _People(index)
    shares = _shared_out(index, people)
    gaps = _gaps([*haul.damage, *people.doubts, *shares.malformed], people)
    patients = [
        RawPatient(
            id=people.id_of(key),
            patient=people.one(key),
            resources=tuple(_in_order(shares.charts[key])),
            resolve=index.resolve,
            gaps=tuple(sorted(gaps[key], key=lambda gap: (gap.kind or "", gap.detail))),
            duplicates=frozenset(shares.doubled[key]),
        )
        for key in sorted(people.screened, key=lambda key: (people.id_of(key), key))
    ]
    told = [*haul.damage, *people.damage, *shares.malformed, *_doubled_ids(patients), *_notes(shares)]
    return patients, told


# Which resource is meant


class _Index:
    """The resources of a source, the newest of each, and what a reference from one of them leads to."""

    def __init__(self, haul: Haul) -> None:
        self.home = _home(haul.found)
        self._origins: dict[int, Found] = {}
        self._at_url: dict[tuple[str, str], set[Key]] = defaultdict(set)
        self._bases: dict[tuple[str, str], set[str]] = defaultdict(set)
        versions: dict[Key, list[Found]] = defaultdict(list)
        for number, found in enumerate(haul.found):
            key = self._key(found, number)
            versions[key].append(found)
            self._bases[key.kind, key.id].add(key.base)
            self._note_origin(found)
            if found.full_url:
                self._at_url[found.scope, _plain(found.full_url)].add(key)
        gone = self._deletions(haul.deletions)
        newest = {key: _newest(founds, gone.get(key, ())) for key, founds in versions.items()}
        self.newest: dict[Key, list[Found]] = {key: founds for key, founds in newest.items() if founds}

    def key_of(self, reference: str, origin: Found | None) -> Key | None:
        """What a literal reference means where it stands; the key may be one that nothing here has.

        None where it says nothing that could be followed. A version in it changes nothing.
        """
        literal = _plain(reference)
        if not literal or literal.startswith("#"):
            return None
        here = self._at_url.get((origin.scope, literal), set()) if origin else set()
        if len(here) == 1:
            return next(iter(here))
        parts = _parts(literal)
        if parts is None:
            return None
        base, kind, own_id = parts
        return Key(base, kind, own_id) if base else Key(self._nearest(kind, own_id, self._base(origin)), kind, own_id)

    def resolve(self, reference: str, from_resource: Json) -> Json | None:
        """The resource that is meant, contained ones too; None where it is not here, or two contradict each other."""
        origin = self._origins.get(id(from_resource))
        if reference.startswith("#"):
            return contained(origin.resource if origin else from_resource, reference[1:])
        key = self.key_of(reference, origin)
        founds = self.newest.get(key, []) if key else []
        return founds[0].resource if len(founds) == 1 else None

    def _key(self, found: Found, number: int) -> Key:
        kind, own_id = str(found.resource.get("resourceType")), _own_id(found)
        if own_id:
            return Key(self._base(found), kind, own_id)
        # Without an id each is a record of its own; no reference by type and id reaches it.
        return Key(f"{found.scope}#{number}", kind, "")

    def _base(self, found: Found | None) -> str:
        return (_base_of(found) if found else "") or self.home

    def _nearest(self, kind: str, own_id: str, base: str) -> str:
        """The base that a relative reference means: the own one, unless only one of the two is told."""
        known = self._bases.get((kind, own_id), set())
        if base in known:
            return base
        if "" in known:
            return ""
        return next(iter(known)) if not base and len(known) == 1 else base

    def _note_origin(self, found: Found) -> None:
        self._origins[id(found.resource)] = found
        for part in objects(found.resource.get("contained")):
            self._origins[id(part)] = found

    def _deletions(self, deletions: Iterable[Deletion]) -> dict[Key, list[Deletion]]:
        gone: dict[Key, list[Deletion]] = defaultdict(list)
        for deletion in deletions:
            kind, _, own_id = deletion.reference.rpartition("/")
            base = base_key(deletion.base) if deletion.base else self.home
            gone[Key(self._nearest(kind, own_id, base), kind, own_id)].append(deletion)
        return gone


def _home(founds: Iterable[Found]) -> str:
    """The base of what does not tell its own: that of the Patients, where they all have the same."""
    bases = {_base_of(found) for found in founds if found.resource.get("resourceType") == "Patient"} - {""}
    return bases.pop() if len(bases) == 1 else ""


def _base_of(found: Found) -> str:
    if found.base:
        return base_key(found.base)
    base, kind, own_id = (_parts(_plain(found.full_url)) if found.full_url.startswith("http") else None) or ("", "", "")
    stands_there = kind == found.resource.get("resourceType") and own_id == found.resource.get("id", own_id)
    return base if stands_there else ""


def _own_id(found: Found) -> str:
    """Its id; where it has none, the one in the address at which it stands."""
    if own_id := found.resource.get("id"):
        return str(own_id)
    return _plain(found.full_url).rpartition("/")[2] if _base_of(found) and found.full_url else ""


@lru_cache(maxsize=4096)
def _parts(literal: str) -> tuple[str, str, str] | None:
    """Base ("" for a relative one), type and id of a RESTful reference."""
    found = _LITERAL.match(literal)
    return (base_key(found[1]) if found[1] else "", found[2], found[3]) if found else None


@lru_cache(maxsize=4096)
def _plain(url: str) -> str:
    """An address without version; those of the urn family do not tell small letters from capital ones."""
    bare = _HISTORY.sub("", url.strip())
    return bare.lower() if bare[:4].lower() == "urn:" else bare


def contained(resource: Json, own_id: str) -> Json | None:
    """The resource inside that "#id" means, the whole one for "#" alone; None where there is none, or two."""
    if not own_id:
        return resource
    parts = [part for part in objects(resource.get("contained")) if part.get("id") in (own_id, f"#{own_id}")]
    return parts[0] if len(parts) == 1 else None


# Which version speaks


@dataclass(frozen=True, slots=True)
class _Stamp:
    version: int | None
    when: Span | None

    @staticmethod
    def of(version: object, when: object) -> _Stamp:
        text = str(version) if isinstance(version, str | int) and not isinstance(version, bool) else ""
        number = int(text) if _DIGITS.match(text) else None
        return _Stamp(number, Span.parse(when, UTC))

    def after(self, other: _Stamp) -> bool:
        """Whether this is certainly the newer one: by number, else by time."""
        if self.version is not None and other.version is not None and self.version != other.version:
            return self.version > other.version
        if self.when is not None and other.when is not None:
            return self.when.earliest > other.when.latest
        return False


def _newest(founds: Sequence[Found], deletions: Sequence[Deletion]) -> list[Found]:
    """What is left of one identity: nothing, its newest version, or several that no version and no time orders."""
    if len(founds) == 1 and not deletions:
        return list(founds)
    different: list[Found] = []
    for found in sorted(founds, key=lambda one: (_canonical(one.resource), one.scope, one.full_url)):
        if all(found.resource != other.resource for other in different):
            different.append(found)
    stamps = [_stamp_of(found) for found in different]
    gone = [_Stamp.of(deletion.version, deletion.when) for deletion in deletions]
    left = [
        found
        for found, stamp in zip(different, stamps, strict=True)
        if not any(other.after(stamp) for other in stamps) and all(stamp.after(deletion) for deletion in gone)
    ]
    # Numbers and times that contradict each other in a circle order nothing.
    return left if left or gone else different


def _stamp_of(found: Found) -> _Stamp:
    meta = found.resource.get("meta")
    return (
        _Stamp.of(meta.get("versionId"), meta.get("lastUpdated")) if isinstance(meta, Mapping) else _Stamp(None, None)
    )


def _canonical(resource: Json) -> bytes:
    try:
        return orjson.dumps(resource, default=str, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        return b""


# Who is screened


class _People:
    """The Patients of a source, and who counts for whom: a retired record for its survivor (Patient.link)."""

    def __init__(self, index: _Index) -> None:
        self._index = index
        self._records = {key: founds for key, founds in index.newest.items() if key.kind == "Patient"}
        self._carriers: dict[tuple[str, str], set[Key]] = defaultdict(set)
        self._successors: dict[Key, set[Key]] = defaultdict(set)
        self._ends: dict[Key, frozenset[Key]] = {}
        self._read()
        self.damage: list[Damage] = []
        self.doubts: list[Damage] = []
        self.screened: set[Key] = set()
        for key in sorted(self._records):
            self._judge(key)

    def meant_by(self, reference: Mapping[str, Any], origin: Found) -> Key | None:
        """The Patient whom a Reference names, by address or else by an identifier; the key may have no record here."""
        literal = reference.get("reference")
        key = self._index.key_of(literal, origin) if isinstance(literal, str) else None
        if key is not None and (key.kind != "Patient" or self.knows(key)):
            return key
        for token in _tokens(reference):
            survivors = {end for carrier in self._carriers.get(token, ()) for end in self.survivors(carrier)}
            if len(survivors) == 1:
                return survivors.pop()
        return key

    @cached_property
    def _retired(self) -> dict[Key, set[Key]]:
        """The records that count for each survivor."""
        retired: dict[Key, set[Key]] = defaultdict(set)
        for key in self._successors:
            for end in self.survivors(key) - {key}:
                retired[end].add(key)
        return retired

    def survivors(self, key: Key) -> frozenset[Key]:
        """Where a chain of replaced-by ends: at one record, unless the source contradicts itself."""
        if key not in self._successors:
            return frozenset({key})
        if key not in self._ends:
            reach = self._reach(key)
            last = {one for one in reach if one not in self._successors}
            # Records that only replace each other: any one may stand for them, if it is always the same one.
            circle = set.intersection(*map(self._reach, reach))
            self._ends[key] = frozenset(last or {min(circle or reach)})
        return self._ends[key]

    def one(self, key: Key) -> Json:
        """The Patient resource; of copies that contradict each other, what they agree on. A death on a retired one counts."""
        copies = [found.resource for found in self._records[key]]
        retired = [found.resource for one in sorted(self._retired.get(key, ())) for found in self._records.get(one, ())]
        if len(copies) == 1 and not retired:
            return copies[0]
        first, *others = copies
        agreed = {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}
        deaths = {name: copy[name] for name in DEATH for copy in reversed((*copies, *retired)) if copy.get(name)}
        return {**agreed, **deaths}

    def id_of(self, key: Key) -> str:
        """The id; of a Patient without one, the last part of the urn by which others name it, else ""."""
        if key.id or key not in self._records:
            return key.id
        url = self._records[key][0].full_url
        return url.rpartition(":")[2].strip() if url.startswith("urn:") else ""

    def families(self) -> dict[Key, set[str]]:
        """For each screened record the ids of all that count for it, its own among them."""
        families: dict[Key, set[str]] = defaultdict(set)
        for key in self._records.keys() | self._successors.keys():
            for end in self.survivors(key):
                families[end].add(self.id_of(key))
        return {key: families[key] for key in self.screened}

    @property
    def contradicting(self) -> set[Key]:
        return {key for key, founds in self._records.items() if len(founds) > 1}

    def knows(self, key: Key) -> bool:
        return key in self._records or key in self._successors

    def is_elsewhere(self, key: Key) -> bool:
        return key.base != self._index.home

    def _reach(self, start: Key) -> set[Key]:
        reach, waiting = {start}, [start]
        while waiting:
            new = self._successors.get(waiting.pop(), set()) - reach
            reach |= new
            waiting += new
        return reach

    def _read(self) -> None:
        patients = [(key, found) for key, founds in self._records.items() for found in founds]
        for key, found in patients:
            for identifier in objects(found.resource.get("identifier")):
                if token := _token(identifier):
                    self._carriers[token].add(key)
        links = [(key, found, link) for key, found in patients for link in objects(found.resource.get("link"))]
        for key, found, link in links:
            other = link.get("other")
            target = self._other(key, other, found) if isinstance(other, Mapping) else None
            if target == key or (target is not None and target.kind != "Patient"):
                continue
            if link.get("type") == "replaced-by":
                self._successors[key].add(target or Key("", "Patient", "?"))
            elif link.get("type") == "replaces" and target is not None:
                self._successors[target].add(key)

    def _other(self, own: Key, reference: Mapping[str, Any], found: Found) -> Key | None:
        literal = reference.get("reference")
        if isinstance(literal, str):
            return self._index.key_of(literal, found)
        carriers = {one for token in _tokens(reference) for one in self._carriers.get(token, ()) if one != own}
        return carriers.pop() if len(carriers) == 1 else None

    def _judge(self, key: Key) -> None:
        own_id, ends = self.id_of(key), self.survivors(key)
        if not own_id:
            self._tell("a Patient without id: cannot be named and is not screened", None)
        elif ends == {key}:
            self.screened.add(key)
            if key in self._successors:
                self._tell(f"Patient/{own_id}: records that replace each other, screened as this one", own_id)
        elif len(ends) > 1:
            self._tell(f"Patient/{own_id}: replaced by more than one record, so that it counts for none", own_id)
            # Each of them may have more on record than is known here.
            for end in sorted(ends):
                self.doubts.append(Damage(f"Patient/{own_id} may be this patient, too", None, end.id))
        elif not ends & self._records.keys():
            self._tell(f"Patient/{own_id}: replaced by a record that is not in the source, so not screened", own_id)

    def _tell(self, what: str, own_id: str | None) -> None:
        self.damage.append(Damage(what, "Patient", own_id))


def _tokens(reference: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Identifiers by which a Reference names a Patient: `identifier`, or a search such as Patient?identifier=s|v."""
    identifier = reference.get("identifier")
    token = _token(identifier) if isinstance(identifier, Mapping) else None
    if token and reference.get("type") in (None, "Patient"):
        yield token
    literal = reference.get("reference")
    if isinstance(literal, str) and literal.startswith("Patient?"):
        parameters = parse_qsl(literal.partition("?")[2])
        if len(parameters) == 1 and parameters[0][0] == "identifier":
            system, bar, value = parameters[0][1].rpartition("|")
            if bar and value:
                yield system, value


def _token(identifier: Json) -> tuple[str, str] | None:
    system, value = identifier.get("system", ""), identifier.get("value")
    if not isinstance(system, str) or not isinstance(value, str) or not value.strip():
        return None
    return system.strip(), value.strip()


# What belongs to whom


@dataclass(slots=True)
class _Shares:
    """The resources of each screened patient, and what could be given to nobody."""

    charts: dict[Key, list[tuple[Key, Found]]] = field(default_factory=lambda: defaultdict(list))
    doubled: dict[Key, set[str]] = field(default_factory=lambda: defaultdict(set))
    malformed: list[Damage] = field(default_factory=list)
    missing: set[str] = field(default_factory=set)
    orphans: Counter[str] = field(default_factory=Counter)
    unusable: set[str] = field(default_factory=set)


def _shared_out(index: _Index, people: _People) -> _Shares:
    shares = _Shares()
    for key in people.contradicting & people.screened:
        shares.doubled[key].add(f"Patient/{people.id_of(key)}")
    for key, founds in sorted(index.newest.items()):
        if key.kind in NOBODYS:
            continue
        owners = {owner for found in founds if (owner := _give(shares, people, key, found)) is not None}
        if len(founds) > 1:
            for owner in owners:
                shares.doubled[owner].add(str(key))
            if not owners:
                shares.unusable.add(str(key))
    return shares


_SOMEBODYS: Final = frozenset(
    {"AdverseEvent", "AllergyIntolerance", "Condition", "MedicationAdministration", "MedicationRequest", "MedicationStatement",
     "Procedure", "ResearchSubject"}
)  # fmt: skip
"""Of these R4 demands that they say whose they are."""


def _give(shares: _Shares, people: _People, key: Key, found: Found) -> Key | None:
    """Puts a resource into the chart that it belongs to, and returns whose that is; None where it is nobody's."""
    try:
        subjects = list(_subjects(found.resource))
    except TypeError:
        what = f"{key if key.id else key.kind}: its subject is no Reference, so that nobody knows whose it is"
        shares.malformed.append(Damage(what, key.kind))
        return None
    meant = [people.meant_by(subject, found) for subject in subjects]
    patient = next((one for one in meant if one is not None and one.kind == "Patient"), None)
    if patient is None:
        shares.orphans[key.kind] += None in meant if subjects else key.kind in _SOMEBODYS
        return None
    ends = people.survivors(patient)
    if len(ends) == 1 and ends <= people.screened:
        owner = next(iter(ends))
        shares.charts[owner].append((key, found))
        return owner
    if not people.knows(patient):
        if people.is_elsewhere(patient):
            shares.orphans[key.kind] += 1
        else:
            shares.missing.add(str(patient))
    return None


def _subjects(resource: Json) -> Iterator[Json]:
    """The References that say whose it is. Raises TypeError where something else stands in their place."""
    for element in SUBJECT_ELEMENTS:
        value = resource.get(element)
        for one in value if isinstance(value, list) else [value]:
            if one is not None and not isinstance(one, Mapping):
                raise TypeError(element)
            if one:
                yield one


def _in_order(shares: Iterable[tuple[Key, Found]]) -> Iterator[Json]:
    """By type and id; those that share both, or have no id, by what they hold."""
    groups: dict[Key, list[Json]] = defaultdict(list)
    for key, found in shares:
        groups[key if key.id else Key("", key.kind, "")].append(found.resource)
    for _, group in sorted(groups.items(), key=lambda item: (item[0].kind, item[0].id, item[0].base)):
        yield from sorted(group, key=_canonical) if len(group) > 1 else group


def _gaps(damages: Iterable[Damage], people: _People) -> dict[Key, set[Gap]]:
    """Rule R4: what could not be read is a hole in the chart of its patient, if that is known, else in every one."""
    of_all: set[Gap] = set()
    of_one: dict[str, set[Gap]] = defaultdict(set)
    for damage in damages:
        kinds = {damage.kind} if damage.kind else damage.scope_kinds or {None}
        gaps = {Gap(kind, detail=damage.what) for kind in kinds}
        (of_all if damage.patient is None else of_one[damage.patient]).update(gaps)
    return {
        key: of_all.union(*(of_one[own_id] for own_id in family if own_id in of_one))
        for key, family in people.families().items()
    }


def _doubled_ids(patients: Iterable[RawPatient]) -> list[Damage]:
    counts = Counter(one.id for one in patients)
    return [
        Damage(f"Patient/{own_id}: {count} different people of this id in the source", "Patient", own_id)
        for own_id, count in sorted(counts.items())
        if count > 1
    ]


def _notes(shares: _Shares) -> list[Damage]:
    """What is to be told and is no failure."""
    told: list[Damage] = []
    if shares.missing:
        what = f"{_named(shares.missing)}: records refer to them, but they are not in the source, so not screened"
        told.append(Damage(what, "Patient", counts=False))
    orphans = ", ".join(f"{count} {kind}" for kind, count in sorted(shares.orphans.items()) if count)
    if orphans:
        what = (
            f"{orphans}: records of nobody in the source (named by another address, by an unknown one, ambiguously, or not at all)"
        )
        told.append(Damage(what, counts=False))
    if shares.unusable:
        what = f"{_named(shares.unusable)}: twice and different, no version or time to order them, so not used"
        told.append(Damage(what, counts=False))
    return told


def _named(references: Iterable[str]) -> str:
    names = sorted(references)
    more = f" and {len(names) - NAMED_AT_MOST} more" if len(names) > NAMED_AT_MOST else ""
    return ", ".join(names[:NAMED_AT_MOST]) + more
