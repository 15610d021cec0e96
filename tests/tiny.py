"""A mappings folder with one small study, and charts for it: what the command line is tested with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fhir_screen.mapping.load import packaged_mappings

Resource = dict[str, Any]

DAY = "2025-11-15"
LOINC, SNOMED, ICD10 = "http://loinc.org", "http://snomed.info/sct", "http://hl7.org/fhir/sid/icd-10"

_CONCEPTS = """
found_in: [Condition]
concepts:
  melanoma:
    label: melanoma
    codes:
      - [WHO, "C43", "Malignant melanoma of skin", "I"]
      - [SCT, "372244006", "Malignant melanoma", "V"]
  transplant:
    label: organ transplant
    found_in: [Procedure]
    codes:
      - [SCT, "77465005", "Transplantation", "V"]
  hemoglobin:
    label: hemoglobin
    found_in: [Observation]
    analyte: hemoglobin
    codes:
      - [LNC, "718-7", "Hemoglobin", "V"]
"""

_ANALYTES = """
analytes:
  hemoglobin: {unit: g/dL, factors: {g/dL: "1", g/L: "0.1"}, plausible: [2 to 25]}
"""

_TRIAL = """
trial: {id: TINY-1, title: A tiny study, status: recruiting}
version: "1"
time_zone: Asia/Seoul
population: T-I01
parameters:
  lab_validity_days: {default: "28", about: "so long a result counts"}
criteria:
  T-I01:
    role: inclusion
    text: Confirmed melanoma
    atoms:
      T-I01:
        text: melanoma
        class: automatic
        rule: {has: {find: melanoma, words: melanoma, absent_means: "no"}}
  T-I02:
    role: inclusion
    text: Hemoglobin ≥ 9.0 g/dL
    atoms:
      T-I02:
        text: Hemoglobin ≥ 9.0 g/dL
        class: automatic
        rule: {measure: {latest: {find: hemoglobin, valid_for: $lab_validity_days days}, needed: ">= 9.0 g/dL"}}
  T-I03:
    role: inclusion
    text: Age 19 or more at consent
    atoms:
      T-I03:
        text: Age 19 or more
        class: automatic
        rule: {age: {needed: ">= 19 years", at: consent_date}}
  T-E01:
    role: exclusion
    text: History of organ transplantation
    atoms:
      T-E01:
        text: organ transplantation
        class: automatic
        rule: {has: {find: transplant, words: none, absent_means: "no"}}
  T-E02:
    role: exclusion
    text: Unsuitable in the investigator's view
    atoms:
      T-E02:
        text: Unsuitable
        class: manual
        ask: Is the patient unsuitable?
"""


def mappings(folder: Path) -> Path:
    """The tiny study; resources, systems and units are the packaged ones."""
    (folder / "concepts").mkdir(parents=True)
    (folder / "trials").mkdir()
    for name in ("systems", "resources", "units"):
        shutil.copy(packaged_mappings() / f"{name}.yaml", folder)
    (folder / "words.yaml").write_text("words:\n  melanoma: [melanoma]\n", encoding="utf-8")
    (folder / "analytes.yaml").write_text(_ANALYTES, encoding="utf-8")
    (folder / "concepts" / "all.yaml").write_text(_CONCEPTS, encoding="utf-8")
    (folder / "trials" / "TINY-1.yaml").write_text(_TRIAL, encoding="utf-8")
    return folder


def chart(
    patient: str, hemoglobin: str = "13.2", *, born: str = "1970-01-01", disease: str = "C43.5"
) -> list[Resource]:
    """A patient with one diagnosis and one hemoglobin of 2025-11-10 in g/dL."""
    subject = {"reference": f"Patient/{patient}"}
    return [
        {"resourceType": "Patient", "id": patient, "birthDate": born, "gender": "male"},
        {
            "resourceType": "Condition",
            "id": f"{patient}-disease",
            "subject": subject,
            "clinicalStatus": {"coding": [{"code": "active"}]},
            "code": {"coding": [{"system": ICD10, "code": disease}]},
            "recordedDate": "2024-01-10",
        },
        {
            "resourceType": "Observation",
            "id": f"{patient}-hb",
            "status": "final",
            "subject": subject,
            "code": {"coding": [{"system": LOINC, "code": "718-7"}]},
            "effectiveDateTime": "2025-11-10",
            "valueQuantity": {"value": float(hemoglobin), "unit": "g/dL", "code": "g/dL"},
        },
    ]


def write(path: Path, resources: Iterable[Resource]) -> Path:
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": one} for one in resources]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(bundle), encoding="utf-8")
    return path
