"""Where the time of a screening goes, hop by hop, as CPU seconds and as a ratio to parsing the same JSON.

    python bench/screening.py FOLDER
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import TypeVar

import orjson

from fhir_screen.core.screening import screen
from fhir_screen.fhir.assemble import assemble
from fhir_screen.fhir.files import read_files
from fhir_screen.fhir.reader import read
from fhir_screen.mapping.load import load

Result = TypeVar("Result")


def timed(hop: Callable[[], Result]) -> tuple[Result, float]:
    began = time.process_time()
    result = hop()
    return result, time.process_time() - began


def main(folder: Path) -> None:
    _, base = timed(lambda: [orjson.loads(path.read_bytes()) for path in sorted(folder.rglob("*.json"))])
    study, loading = timed(load)
    (patients, _), taking = timed(lambda: assemble(read_files(folder)))
    zone = study.zone(study.trials[0])
    records, reading = timed(lambda: [read(raw, study.shapes, study.terms, zone) for raw in patients])
    day = date(2025, 11, 15)
    _, screening = timed(
        lambda: [screen(trial, record, study.terms.vocabulary, day) for record in records for trial in study.trials]
    )
    print(f"{len(patients)} patients, {sum(len(record.facts) for record in records)} facts; parsing alone {base:.3f} s")
    for name, seconds in (("load mappings", loading), ("files", taking), ("read", reading), ("screen", screening)):
        print(f"{name:>14}  {seconds:7.3f} s  {seconds / base:6.1f} x parsing")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
