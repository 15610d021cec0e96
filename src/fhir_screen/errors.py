"""The errors that end a command, by what the caller does next, each with its exit code and room for a remedy.

What concerns one patient or one search is told where it is known (`fhir/server`, `fhir/valuesets`, `fhir/standing`),
by subclasses of these with codes of their own. Codes that are no error's: `cli/exits`.
"""

from __future__ import annotations

from collections.abc import Sequence


class FhirScreenError(Exception):
    """What went wrong, where, and what to do about it, in words for the person who can mend it."""

    exit_code = 2

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        super().__init__(what)
        self.what, self.where, self.remedy = what, where, remedy

    def __str__(self) -> str:
        lines = [f"{self.where}: {self.what}" if self.where else self.what]
        if self.remedy:
            lines.append(f"  try: {self.remedy}")
        return "\n".join(lines)


class UsageError(FhirScreenError):
    """An option, a setting or a source that cannot be meant."""


class MappingError(FhirScreenError):
    """A mistake in a mapping, site or anchors file; ``where`` is file:line and the path inside the document."""


class Mistakes(MappingError):
    """Several mistakes, all told at once."""

    def __init__(self, found: Sequence[MappingError]) -> None:
        super().__init__(found[0].what, where=found[0].where, remedy=found[0].remedy)
        self.found = tuple(found)

    def __str__(self) -> str:
        return "\nerror: ".join(MappingError.__str__(one) for one in self.found) + f"\n{len(self.found)} mistakes"


class NoInputError(FhirScreenError):
    """The source does not exist or holds not one readable FHIR resource."""


class PreflightError(FhirScreenError):
    """The address answers, but not as a FHIR server that we may use: authorization, TLS, HTML, wrong version."""

    exit_code = 3


class SafetyStop(FhirScreenError):
    """Going on could harm somebody: another patient's data, a duplicate identity, a mass change."""

    exit_code = 4


class TemporaryError(FhirScreenError):
    """Nothing is wrong that time does not mend: run the same command again."""

    exit_code = 75
