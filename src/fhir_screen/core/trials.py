"""A trial as its protocol is built: criteria in the protocol's own words, made of atoms, each with its rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import tzinfo

from fhir_screen.core.decision import AtomClass, Role, TrialIdentity
from fhir_screen.core.rules import Ask, Hint, Rule


@dataclass(frozen=True, slots=True)
class Atom:
    """One separately testable predicate. ``asked_when`` guards a question that is put only if it is true (rule R1).

    ``text_ko`` and ``question_ko`` are the site's words for readers of Korean, where the mapping has them.
    """

    id: str
    text: str
    atom_class: AtomClass
    rule: Rule
    asked_when: Rule | None = None
    hints: tuple[Hint, ...] = ()
    text_ko: str = ""
    question_ko: str = ""

    @property
    def question(self) -> str:
        return self.rule.question if isinstance(self.rule, Ask) else ""


@dataclass(frozen=True, slots=True)
class Criterion:
    """One line of the protocol. ``each`` names the atom whose facts are put to the formula one by one."""

    id: str
    role: Role
    text: str
    atoms: tuple[Atom, ...]
    formula: Rule
    each: str | None = None
    text_ko: str = ""


@dataclass(frozen=True, slots=True)
class Trial:
    """A compiled trial: parameters are already in its rules. ``population`` is the atom of the index disease."""

    identity: TrialIdentity
    population: str
    criteria: tuple[Criterion, ...]
    zone: tzinfo
    names: frozenset[str] = frozenset()
    parameters: Mapping[str, str] = field(default_factory=dict)
    closed_from_days: int | None = None
    takes_preliminary: bool = False

    @property
    def id(self) -> str:
        return self.identity.id

    @property
    def rules(self) -> dict[str, Rule]:
        return {atom.id: atom.rule for criterion in self.criteria for atom in criterion.atoms}
