"""Where tests get their real FHIR server from."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from .server import missing_tools, running


@pytest.fixture(scope="session")
def hapi() -> Iterator[str]:
    """The base URL of a real HAPI FHIR R4 server, one for the whole session.

    It is shared, so a test keeps to ids and identifier systems of its own. `FHIR_SCREEN_HAPI_URL` names an outside
    server instead. Every process of pytest-xdist would start one: run these tests in one process.
    """
    if outside := os.environ.get("FHIR_SCREEN_HAPI_URL"):
        yield outside.rstrip("/")
        return
    if missing := missing_tools():
        reason = (
            f"THE REAL-SERVER TESTS DID NOT RUN: {' and '.join(missing)} not found. "
            "Install a JDK 17 and Maven, or set FHIR_SCREEN_HAPI_URL."
        )
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with running() as base_url:
        yield base_url
