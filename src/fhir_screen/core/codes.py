"""Which concepts a coding belongs to: code systems under all their names, exact and prefix codes (rule R18)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Matching(StrEnum):
    """How the codes of a system are compared: letter by letter, whatever their case, or by hierarchy as in ICD and ATC."""

    EXACT = "exact"
    ANY_CASE = "any-case"
    PREFIX = "prefix"


class Reach(StrEnum):
    """What it means that no listed set holds a code of this system (rule R14)."""

    COMPLETE = "complete"
    """The code says what it is: it is something else (LOINC, ICD, ATC)."""
    DESCENDANTS = "descendants"
    """It may be a descendant that nobody listed, or a product of a listed ingredient (SNOMED CT, RxNorm)."""


@dataclass(frozen=True, slots=True)
class CodeSystem:
    """A code system: the canonical ``uri``, all its other names, and how its codes compare."""

    key: str
    uri: str
    aliases: tuple[str, ...] = ()
    matching: Matching = Matching.EXACT
    reach: Reach = Reach.COMPLETE


@dataclass(frozen=True, slots=True)
class Code:
    """A code as it came, with the key of its system (None: unknown here, or none was given)."""

    system: str | None
    code: str
    uri: str = ""
    display: str = ""

    def __str__(self) -> str:
        return f"{self.uri}|{self.code}"


@dataclass(frozen=True, slots=True)
class Membership:
    """A concept that a code belongs to; ``length`` of the row that matched (longer is more specific), ``value`` of it."""

    concept: str
    length: int
    value: str | None = None


def canonical_uri(uri: str) -> str:
    """The spelling under which systems are looked up: trimmed, http for https, no slash at the end, OIDs as URN."""
    text = uri.strip().rstrip("/").lower()
    if text.startswith("https://"):
        text = "http://" + text.removeprefix("https://")
    if text.startswith("oid:"):
        text = "urn:" + text
    return "urn:oid:" + text if text[:1].isdigit() and text.replace(".", "").isdigit() else text


def canonical_code(code: str, matching: Matching) -> str:
    """Trimmed; codes of a hierarchy in upper case without dots, so that "c43.5", "C435" and "C43.5." are one."""
    match matching:
        case Matching.EXACT:
            return code.strip()
        case Matching.ANY_CASE:
            return code.strip().upper()
        case Matching.PREFIX:
            return code.strip().upper().replace(".", "")


ITSELF = "="
"""After a code that has codes below it: this very code, a class of substances, and nothing below it."""


@dataclass(frozen=True, slots=True)
class Codebook:
    """All code sets, compiled: one dictionary access per coding, one per possible prefix where codes have a hierarchy.

    ``systems`` by canonical URI or alias; ``rows`` by system key, then canonical code.
    """

    systems: Mapping[str, CodeSystem]
    rows: Mapping[str, Mapping[str, tuple[Membership, ...]]]

    def read(self, uri: str | None, code: str | None, display: str = "") -> Code | None:
        """A coding as the record gives it; None where it has no code."""
        if not code or not code.strip():
            return None
        system = self.systems.get(canonical_uri(uri)) if uri else None
        return Code(system.key if system else None, code.strip(), (uri or "").strip(), display)

    def memberships(self, code: Code) -> tuple[Membership, ...]:
        """The concepts of a code, each with its longest matching row."""
        if code.system is None:
            return self.rows.get(canonical_uri(code.uri), {}).get(code.code, ()) if code.uri else ()
        table = self.rows.get(code.system)
        if not table:
            return ()
        matching = self._matching(code.system)
        text = canonical_code(code.code, matching)
        if matching is not Matching.PREFIX:
            return table.get(text, ())
        best = {member.concept: member for member in table.get(f"{text}{ITSELF}", ())}
        for length in range(len(text), 0, -1):
            for membership in table.get(text[:length], ()):
                best.setdefault(membership.concept, membership)
        return tuple(best.values())

    def says_what_it_is(self, code: Code) -> bool:
        """Whether a code that is in none of a rule's sets is thereby known to be something else (rule R14)."""
        if code.system is None:
            return bool(self.memberships(code))
        system = self._by_key(code.system)
        return system.reach is Reach.COMPLETE or bool(self.memberships(code))

    def _by_key(self, key: str) -> CodeSystem:
        return self.systems[key]

    def _matching(self, key: str) -> Matching:
        return self._by_key(key).matching
