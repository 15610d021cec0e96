"""The same input gives the same bytes, whatever the machine; and nobody's answer depends on who else is screened."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PROGRAM = Path(sys.executable).with_name("fhir-screen")
FOREIGN = [HERE / "data" / name for name in ("synthea-r4", "ctm-patients", "mii-testdata")]
SAMPLES = HERE.parent / "sample_bundles"
MACHINES = (
    {"TZ": "America/New_York", "LC_ALL": "C", "PYTHONHASHSEED": "1"},
    {"TZ": "Asia/Tokyo", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "77"},
)


def screened(source: Path, machine: dict[str, str], *more: str) -> tuple[int, bytes]:
    command = [PROGRAM, "screen", source, "--all", "--as-of", "2025-11-15", "--format", "ndjson", *more]
    done = subprocess.run(command, env={**os.environ, **machine}, capture_output=True, check=False)
    assert b"Traceback" not in done.stderr
    return done.returncode, done.stdout


@pytest.mark.parametrize("source", [*FOREIGN, SAMPLES], ids=lambda path: path.name)
def test_another_time_zone_locale_and_hash_seed_give_the_same_bytes(source: Path) -> None:
    first, second = (screened(source, machine) for machine in MACHINES)
    assert first == second
    assert first[0] in (0, 1)
    assert first[1]


@pytest.mark.parametrize("source", FOREIGN, ids=lambda path: path.name)
def test_nobody_in_foreign_data_is_likely_eligible(source: Path) -> None:
    lines = screened(source, MACHINES[0])[1].splitlines()
    assert {json.loads(line)["verdict"] for line in lines} <= {"not-eligible", "needs-review"}


def test_a_patient_alone_gets_the_answer_that_he_gets_among_others() -> None:
    together = screened(SAMPLES, MACHINES[0])[1].splitlines()
    for patient in ("sample-05", "sample-12", "sample-18"):
        alone = screened(SAMPLES, MACHINES[0], "--patient", patient)[1].splitlines()
        assert alone == [line for line in together if json.loads(line)["patient"] == f"Patient/{patient}"]
        assert len(alone) == 2
