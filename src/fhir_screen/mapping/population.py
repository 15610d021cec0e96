"""By which exact codes the patients of a study's index diseases are asked for on a server."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Final

from fhir_screen.core import rules as core
from fhir_screen.core.codes import CodeSystem, Matching
from fhir_screen.core.trials import Trial
from fhir_screen.core.walk import leaves
from fhir_screen.mapping.study import Study

CATEGORY: Final = 3
"""Signs of an ICD category; what is shorter is a chapter, and no list of its codes would be short."""
SUBDIVISIONS: Final = 2
"""Digits after the category that are asked for one by one. Deeper codes exist in ICD-10-CM alone, for the eyelid."""


def index_tokens(study: Study) -> tuple[tuple[str, str], ...]:
    """Each (system, code) to ask for: the rows of the index diseases under all names of their system, a site's own too.

    A token search knows no families of codes (C43 does not find C43.9), so categories are written out, with and
    without the dot. Families that cannot be written out (SNOMED CT descendants) are found by their listed codes only:
    a population that must not miss them is a Group, a list of patients, or everybody.
    """
    concepts = frozenset[str]().union(*(_index_concepts(trial) for trial in study.trials))
    book = study.terms.vocabulary.codebook
    tokens: set[tuple[str, str]] = set()
    for key, table in book.rows.items():
        system = book.systems.get(key) or CodeSystem(key, key)
        for code, memberships in table.items():
            if any(membership.concept in concepts for membership in memberships):
                tokens.update(product((system.uri, *system.aliases), _written_out(system, code)))
    return tuple(sorted(tokens))


def _index_concepts(trial: Trial) -> frozenset[str]:
    """What the population's atom finds in Conditions by the code alone."""
    found = (leaf.select for leaf in leaves(trial.rules[trial.population]) if isinstance(leaf, core.Has))
    plain = (select for select in found if "Condition" in select.kinds and not select.where)
    return frozenset[str]().union(*(select.find | select.review for select in plain))


def _written_out(system: CodeSystem, code: str) -> Iterator[str]:
    if system.matching is Matching.EXACT:
        yield code
    elif len(code) >= CATEGORY:
        for length in range(SUBDIVISIONS + 1):
            for digits in product("0123456789", repeat=length):
                whole = code + "".join(digits)
                yield whole
                if len(whole) > CATEGORY:
                    yield f"{whole[:CATEGORY]}.{whole[CATEGORY:]}"
