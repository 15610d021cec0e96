"""What the tests rely on when they say `hapi`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from .server import HERE, load, running

pytestmark = pytest.mark.server

STARTER = """
import subprocess, sys
server = subprocess.Popen([sys.executable, *sys.argv[1:]])
print(server.pid, flush=True)
server.wait()
"""


def get(url: str) -> str:
    with urllib.request.urlopen(url) as answer:
        return str(answer.read().decode())


def test_loading_keeps_ids_and_written_decimals_and_ties_the_references_of_a_bundle(hapi: str, tmp_path: Path) -> None:
    patient = {"resourceType": "Patient", "id": "hapi-load-1"}
    weight = """{"resourceType": "Observation", "id": "hapi-load-2", "status": "final", "code": {"text": "weight"},
                 "subject": {"reference": "urn:uuid:6f3c0d2e-0000-4000-8000-000000000001"},
                 "valueQuantity": {"value": 70.10}}"""
    (tmp_path / "bundle.json").write_text(
        '{"resourceType": "Bundle", "type": "collection", "entry": ['
        f'{{"fullUrl": "urn:uuid:6f3c0d2e-0000-4000-8000-000000000001", "resource": {json.dumps(patient)}}},'
        f'{{"resource": {weight}}}]}}'
    )

    assert load(hapi, [tmp_path]) == 2
    stored = get(f"{hapi}/Observation/hapi-load-2?_pretty=false")
    assert json.loads(stored)["subject"] == {"reference": "Patient/hapi-load-1"}
    assert '"value":70.10}' in stored


def test_a_forbidden_type_answers_403_and_data_with_dangling_references_loads(tmp_path: Path) -> None:
    procedure = {"resourceType": "Procedure", "id": "1", "status": "completed", "subject": {"reference": "Patient/no"}}
    (tmp_path / "procedure.json").write_text(json.dumps(procedure))

    with running(forbidden=("Procedure",), data=[tmp_path]) as base_url:
        assert json.loads(get(f"{base_url}/Procedure/1"))["subject"] == {"reference": "Patient/no"}
        with pytest.raises(urllib.error.HTTPError, match="403") as refused:
            get(f"{base_url}/Procedure?patient=no")
        refused.value.close()
        assert "entry" not in json.loads(get(f"{base_url}/Condition?patient=no"))


def test_the_server_ends_when_the_process_that_started_it_is_killed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STARTER, str(HERE / "server.py")], stdout=subprocess.PIPE, text=True
    ) as starter:
        assert starter.stdout is not None
        starter.stdout.readline()
        base_url = starter.stdout.readline().strip()
        assert json.loads(get(f"{base_url}/metadata"))["fhirVersion"] == "4.0.1"
        os.kill(starter.pid, signal.SIGKILL)

        while answers(base_url):  # the time limit of the run is the limit here
            time.sleep(0.1)


def answers(base_url: str) -> bool:
    try:
        get(f"{base_url}/metadata")
    except OSError:
        return False
    return True
