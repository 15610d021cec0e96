"""What was measured or answered, and the reference ranges that stand beside it (rules R10 to R13)."""

from __future__ import annotations

from fhir_screen.core.facts import ReferenceRange, Value
from fhir_screen.core.quantities import Quantity
from fhir_screen.fhir.coding import answer_at_end, answer_in_words, answers_of, codes_of, not_understood, text_of
from fhir_screen.fhir.datatypes import (
    bare_number,
    items,
    objects,
    quantity,
    quantity_range,
    string,
    titre,
    words_of,
    years,
)
from fhir_screen.fhir.raw import Json
from fhir_screen.fhir.reading import Reading, all_found, found_at
from fhir_screen.mapping.shapes import RangesShape, ValueShape


def value_of(reading: Reading, shape: ValueShape | None, resource: Json) -> Value | None:
    """What was measured or answered; absent where that is said or nothing can be read, None where there is no element."""
    if shape is None:
        return None
    if all_found(reading, shape.absent, resource):
        return Value(absent=True)
    amount, text = _amount(reading, shape, resource)
    answers = [(place, value) for place in shape.coded for value in found_at(reading, place, resource)]
    codings = [coding for place, value in answers for coding in answers_of(reading, value, place.system)]
    said = next((string(one) for one in all_found(reading, shape.text, resource) if string(one)), "")
    if said and not any(coding.concepts for coding in codings):
        worded = answer_in_words(reading.terms, said) or answer_at_end(reading.terms, said)
        codings += [worded] if worded else []
    text = said or text or next((told for _, value in answers if (told := text_of(value))), "")
    boolean = next((one for one in all_found(reading, shape.boolean, resource) if isinstance(one, bool)), None)
    if amount is None and not codings and not text and boolean is None:
        return Value(absent=True) if _is_there(reading, shape, resource) else None
    return Value(amount, tuple(dict.fromkeys(codings)), text or None, boolean)


def _is_there(reading: Reading, shape: ValueShape, resource: Json) -> bool:
    """Whether there is an element for the value, though none could be read from it."""
    places = (*shape.quantity, *shape.number, *shape.coded, *shape.text, *shape.boolean, *shape.range, *shape.ratio)
    return bool(all_found(reading, places, resource))


def _amount(reading: Reading, shape: ValueShape, resource: Json) -> tuple[Quantity | None, str]:
    """The first amount that can be read, and the text of one that is written in a way of its own."""
    for value in objects(all_found(reading, shape.quantity, resource)):
        if (amount := quantity(value)) is not None:
            return amount, ""
    unit = next(iter(words_of(all_found(reading, shape.unit, resource))), "")
    for value in all_found(reading, shape.number, resource):
        if (amount := bare_number(value, unit)) is not None:
            return amount, ""
    for value in objects(all_found(reading, shape.range, resource)):
        if (amount := quantity_range(value)) is not None:
            return amount, ""
    for value in objects(all_found(reading, shape.ratio, resource)):
        amount, text = titre(value)
        if amount is not None:
            return amount, text
    return None, ""


def ranges_of(reading: Reading, shape: RangesShape | None, resource: Json) -> tuple[ReferenceRange, ...]:
    """The reference ranges beside a value, each with whom it is for."""
    if shape is None:
        return ()
    return tuple(_range(reading, shape, one) for one in objects(shape.at(resource)))


def _range(reading: Reading, shape: RangesShape, value: Json) -> ReferenceRange:
    high = next((amount for one in objects(shape.high(value)) if (amount := quantity(one))), None)
    kinds = list(items(shape.type(value)))
    meanings = {coding.code.code.lower() for kind in kinds for coding in codes_of(reading, kind)}
    applies = [
        coding for one in items(shape.applies_to(value)) for coding in answers_of(reading, one) or not_understood(one)
    ]
    return ReferenceRange(
        high=high,
        text=next((string(one) for one in items(shape.text(value)) if string(one)), None),
        meanings=frozenset(meanings or {text.lower() for kind in kinds if (text := text_of(kind))}),
        applies_to=tuple(dict.fromkeys(applies)),
        ages=tuple(interval for one in objects(shape.age(value)) if (interval := years(one))),
    )
