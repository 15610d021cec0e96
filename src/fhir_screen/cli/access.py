"""How a command enters the server that it reads, and the one that it writes."""

from __future__ import annotations

from dataclasses import replace

from fhir_screen.fhir.address import origin_of
from fhir_screen.fhir.connection import Access
from fhir_screen.settings import Settings


def access_of(chosen: Settings, base: str) -> Access:
    return Access(
        base, chosen.token_file, chosen.user_file, chosen.ca, chosen.client_cert, chosen.client_key, chosen.proxy
    )


def write_access_of(chosen: Settings, target: str) -> Access:
    """How to enter where we write: the reader's secrets are for the reader's origin and go to no other."""
    own = chosen.write_token_file or chosen.write_user_file
    if own is None and origin_of(target) == origin_of(chosen.server or ""):
        return access_of(chosen, target)
    entering = replace(chosen, token_file=chosen.write_token_file, user_file=chosen.write_user_file)
    return access_of(replace(entering, client_cert=None, client_key=None), target)
