"""The JSON Schema of every mapping document, so that an editor completes keys and marks mistakes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from fhir_screen.mapping import documents as docs

Schema = dict[str, Any]

DOCUMENTS: Final[Mapping[str, type[BaseModel]]] = {
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

_TEXT: Final = {"type": "string"}
_TEXTS: Final = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]}
_RULE: Final = {"$ref": "#/$defs/rule"}
_RULES: Final = {"type": "array", "items": _RULE, "minItems": 1}
_PARAMETER: Final = {"type": "string", "pattern": r"^\$\w+$"}
_AMOUNT: Final = {"$ref": "#/$defs/amount"}

VERBS: Final[Mapping[str, type[BaseModel] | Schema]] = {
    "has": docs.HasDoc,
    "says": docs.SaysDoc,
    "measure": docs.MeasureDoc,
    "result": docs.ResultDoc,
    "daily_dose": docs.DailyDoseDoc,
    "then": docs.ThenDoc,
    "stable": docs.StableDoc,
    "several": docs.SeveralDoc,
    "age": docs.AgeDoc,
    "sex": {"enum": ["male", "female"]},
    "instance_is": docs.InstanceDoc,
    "instance_state": _TEXTS,
    "all": _RULES,
    "any": _RULES,
    "not": _RULE,
    "at_least": docs.AtLeastDoc,
    "agree": docs.AgreeDoc,
    "decide": docs.DecideDoc,
    "taken_back": docs.TakenBackDoc,
    "applies_when": docs.AppliesWhenDoc,
    "flagged": docs.FlaggedDoc,
    "review": docs.BecauseDoc,
    "doubt": docs.DoubtDoc,
    "choose": docs.ChooseDoc,
    "use": docs.UseDoc,
    "coded": _RULE,
    "judged": _RULE,
    "fixed": docs.ConstantDoc,
}
"""What each verb of `mapping.rules` takes."""

AMOUNTS: Final[Mapping[str, type[BaseModel] | Schema]] = {
    "latest": docs.LatestDoc,
    "largest": docs.LargestDoc,
    "derived": _TEXT,
    "lower_bound": _AMOUNT,
    "upper_bound": _AMOUNT,
    "age_at": _TEXT,
    "first_of": {"type": "array", "items": _AMOUNT},
}

_SHORT_FORMS: Final = {"use": [_TEXT]}
"""Verbs whose model may be written shorter."""


def json_schema(name: str) -> Schema:
    """The schema (draft 2020-12) of one document, with the rule language under `$defs`.

    It is kinder than `load`, which alone knows concepts, units and atoms: what it marks is surely wrong.
    """
    language = [shape for shape in (*VERBS.values(), *AMOUNTS.values()) if isinstance(shape, type)]
    own = _defined([DOCUMENTS[name]])
    named = {key: _with_parameters(shape) for key, shape in _defined(language).items()} | own
    named["rule"] = {"anyOf": [_TEXT, *(_keyed(verb, shape) for verb, shape in VERBS.items())]}
    named["amount"] = {"anyOf": [_keyed(kind, shape) for kind, shape in AMOUNTS.items()]}
    written: Schema = _as_yaml_is_written(
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": f"fhir-screen: {name}",
            "$ref": f"#/$defs/{DOCUMENTS[name].__name__}",
            "$defs": named,
        }
    )
    return written


def _defined(models: Iterable[type[BaseModel]]) -> Schema:
    """The schemas of models and of all that they are made of, by name."""
    _, whole = models_json_schema(
        [(model, "validation") for model in dict.fromkeys(models)], by_alias=True, schema_generator=_AsWritten
    )
    defined: Schema = whole["$defs"]
    return defined


def _with_parameters(shape: Schema) -> Schema:
    """A rule may have `$name` wherever it has a value."""
    values = shape.get("properties", {}).items()
    return {**shape, "properties": {key: {"anyOf": [value, _PARAMETER]} for key, value in values}}


class _AsWritten(GenerateJsonSchema):
    """Shows the short forms that a document may use before its model sees them."""

    def function_before_schema(self, schema: Any) -> Schema:
        whole = super().function_before_schema(schema)
        match schema["function"]["function"].__name__:
            case "_listed":
                return {"anyOf": [_TEXT, whole]}
            case "_placed":
                return {"anyOf": [_TEXT, whole["items"], {**whole, "items": {"anyOf": [_TEXT, whole["items"]]}}]}
            case "_where" | "_link":
                return {"anyOf": [*_TEXTS["anyOf"], whole]}
            case _:
                return whole


def _keyed(key: str, shape: type[BaseModel] | Schema) -> Schema:
    """A mapping with this one key."""
    body: Schema = {"$ref": f"#/$defs/{shape.__name__}"} if isinstance(shape, type) else shape
    if key in _SHORT_FORMS:
        body = {"anyOf": [*_SHORT_FORMS[key], body]}
    return {"type": "object", "properties": {key: body}, "required": [key], "additionalProperties": False}


def _as_yaml_is_written(node: Any) -> Any:
    """References to the rule language, and texts that YAML takes for numbers, truths or nothing: `load` reads text."""
    if isinstance(node, list):
        return [_as_yaml_is_written(item) for item in node]
    if not isinstance(node, dict):
        return node
    if node.get("$comment") in ("rule", "amount"):
        return {"$ref": f"#/$defs/{node['$comment']}"}
    made = {key: _as_yaml_is_written(value) for key, value in node.items()}
    if isinstance(made.get("default"), bool) and "yes" in made.get("enum", ()):
        made["default"] = "yes" if made["default"] else "no"
    listed = made.get("enum") or ([made["const"]] if isinstance(made.get("const"), str) else None)
    if listed is not None:
        truths = [word == "true" for word in listed if word in ("true", "false")]
        return {**{k: v for k, v in made.items() if k not in ("const", "type")}, "enum": [*listed, *truths]}
    if made.get("type") == "integer":
        return {**made, "type": ["integer", "string"]}
    if made.get("type") == "string" and "pattern" not in made:
        return {**made, "type": ["string", "number", "boolean", "null"]}
    return made
