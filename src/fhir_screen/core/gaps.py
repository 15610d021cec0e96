"""What could not be read or fetched, and why: a gap overrules "absent" and "latest" (rule R4)."""

from __future__ import annotations

from dataclasses import dataclass

from fhir_screen.core.truth import Reason


@dataclass(frozen=True, slots=True)
class Gap:
    """One hole in the record of one patient.

    ``kind`` is the FHIR resource type that is incomplete; None means that any type may be.
    ``detail`` says in words what happened ("Procedure answered 403"); it never holds patient data. ``of_silence``: what
    is there can be read, and only silence proves nothing (a masked diagnosis may hide a further code).
    """

    kind: str | None
    reason: Reason = Reason.INCOMPLETE_FETCH
    detail: str = ""
    of_silence: bool = False

    @property
    def told(self) -> str:
        return self.detail or "a part of the record could not be read"

    def touches(self, kind: str) -> bool:
        return self.kind is None or self.kind == kind
