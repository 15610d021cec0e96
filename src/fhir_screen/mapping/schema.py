"""The JSON Schema of every mapping document, so that an editor completes keys and marks mistakes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from fhir_screen.mapping import documents as docs

DOCUMENTS: Mapping[str, type[BaseModel]] = {
    "trial": docs.TrialDoc,
    "site": docs.SiteDoc,
    "anchors": docs.AnchorsDoc,
    "concepts": docs.ConceptsDoc,
    "systems": docs.SystemsDoc,
    "analytes": docs.AnalytesDoc,
    "units": docs.UnitsDoc,
    "words": docs.WordsDoc,
    "resources": docs.ResourcesDoc,
    "rules": docs.LibraryDoc,
}

_RULE = {"$ref": "#/$defs/rule"}

VERBS: Mapping[str, type[BaseModel] | Mapping[str, Any]] = {
    "has": docs.HasDoc,
    "says": docs.SaysDoc,
    "measure": docs.MeasureDoc,
    "result": docs.ResultDoc,
    "daily_dose": docs.DailyDoseDoc,
    "then": docs.ThenDoc,
    "stable": docs.StableDoc,
    "age": docs.AgeDoc,
    "sex": {"enum": ["male", "female"]},
    "instance_is": docs.InstanceDoc,
    "instance_state": {"type": ["string", "array"]},
    "all": {"type": "array", "items": _RULE},
    "any": {"type": "array", "items": _RULE},
    "not": _RULE,
    "at_least": docs.AtLeastDoc,
    "agree": docs.AgreeDoc,
    "decide": docs.DecideDoc,
    "taken_back": docs.TakenBackDoc,
    "applies_when": docs.AppliesWhenDoc,
    "flagged": docs.FlaggedDoc,
    "review": docs.BecauseDoc,
    "doubt": docs.BecauseDoc,
    "choose": docs.ChooseDoc,
    "use": docs.UseDoc,
    "atom": {"type": "string"},
    "coded": _RULE,
    "judged": _RULE,
    "fixed": docs.ConstantDoc,
}

AMOUNTS: Mapping[str, type[BaseModel] | Mapping[str, Any]] = {
    "latest": docs.LatestDoc,
    "largest": docs.LargestDoc,
    "derived": {"type": "string"},
    "lower_bound": {"$ref": "#/$defs/amount"},
    "upper_bound": {"$ref": "#/$defs/amount"},
    "age_at": {"type": "string"},
    "first_of": {"type": "array", "items": {"$ref": "#/$defs/amount"}},
}


def json_schema(name: str) -> dict[str, Any]:
    """The schema of one document, with the rule language under `$defs`."""
    schema = DOCUMENTS[name].model_json_schema(by_alias=True)
    defs: dict[str, Any] = schema.setdefault("$defs", {})
    defs["rule"] = {"anyOf": [{"type": "string"}, *(_keyed(defs, verb, shape) for verb, shape in VERBS.items())]}
    defs["amount"] = {"anyOf": [_keyed(defs, kind, shape) for kind, shape in AMOUNTS.items()]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _keyed(defs: dict[str, Any], key: str, shape: type[BaseModel] | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(shape, type):
        inner = shape.model_json_schema(by_alias=True, ref_template="#/$defs/{model}")
        defs.update(inner.pop("$defs", {}))
        defs[shape.__name__] = inner
        shape = {"$ref": f"#/$defs/{shape.__name__}"}
    return {"type": "object", "properties": {key: dict(shape)}, "required": [key], "additionalProperties": False}
