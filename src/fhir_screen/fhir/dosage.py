"""How much of a drug is taken and how often, line by line of its dosage (rule R15)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import tzinfo

from fhir_screen.core.facts import Dose
from fhir_screen.fhir.datatypes import (
    bounds,
    dose,
    dose_amount,
    is_mass,
    items,
    objects,
    ranging,
    times_of,
    times_of_code,
    words_of,
)
from fhir_screen.fhir.raw import Json
from fhir_screen.mapping.shapes import DosesShape

_NO_OBJECT: Json = {}


def doses_of(shape: DosesShape | None, resource: Json, zone: tzinfo) -> tuple[Dose, ...]:
    """One dose a dosage line."""
    if shape is None:
        return ()
    lines = list(objects(shape.at(resource)))
    steps = is_stepwise(lines)
    return tuple(_dose(shape, line, zone, stepwise=steps, lines=len(lines)) for line in lines)


def is_stepwise(lines: Sequence[Json]) -> bool:
    """Whether the lines follow each other, as in a taper, and are not taken together."""
    return len({str(line.get("sequence")) for line in lines}) > 1


def repeat_of(shape: DosesShape, line: Json) -> Json:
    """Where a dosage line says how often and for how long; empty where it does not."""
    return next((one for path in shape.repeat for one in objects(path(line))), _NO_OBJECT)


def _dose(shape: DosesShape, line: Json, zone: tzinfo, *, stepwise: bool, lines: int) -> Dose:
    amounts = {one for path in shape.amount for said in objects(path(line)) if (one := dose_amount(said)) is not None}
    masses = {one for one in amounts if is_mass(one)} or amounts  # beside milligrams, tablets and mg/kg say nothing new
    amount = masses.pop() if len(masses) == 1 else None  # what was ordered and what was calculated may differ
    if shape.single:
        return dose(amount, (1, 1))
    repeat = repeat_of(shape, line)
    codes = (times_of_code(word) for path in shape.timing_code for word in words_of(path(line)))
    per_day = times_of(repeat) or next((times for times in codes if times), None)
    if amount is not None and per_day is not None and (least := times_of(repeat, least=True)) not in (None, per_day):
        amount, per_day = ranging(amount, least or per_day, per_day), least
    bounded = bounds(repeat, zone)
    unclear = "boundsDuration" in repeat or "boundsRange" in repeat or (stepwise and bounded is None)
    if lines > 1 and unclear:
        per_day = None  # one step of a taper, and nothing says on which days
    needed = any(one is True or isinstance(one, dict) for path in shape.as_needed for one in items(path(line)))
    return dose(amount, per_day, as_needed=needed, bounds=bounded)
