"""What all tests share: the real HAPI server, started once, and an environment without our variables."""

import os

import pytest
from hapi.fixtures import hapi as hapi


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith("FHIR_SCREEN_") and n != "FHIR_SCREEN_HAPI_URL"]:
        monkeypatch.delenv(name)
