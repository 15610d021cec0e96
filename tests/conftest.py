"""What all tests share: the real HAPI server, started once, and an environment without our variables."""

import os

import pytest

from hapi.fixtures import hapi as hapi


@pytest.fixture(autouse=True)
def _no_settings_from_outside(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / "states" / str(id(request.node))))
    for name in [n for n in os.environ if n.startswith("FHIR_SCREEN_") and n != "FHIR_SCREEN_HAPI_URL"]:
        monkeypatch.delenv(name)
