"""What the command line, the environment and one TOML file say, in that order; the only door to `os.environ`."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from fhir_screen.errors import UsageError

PREFIX = "FHIR_SCREEN_"


@dataclass(frozen=True, slots=True)
class Settings:
    """How a server is reached and where files lie. Clinical choices stand in the mappings, never here."""

    server: str | None = None
    write_to: str | None = None
    token_file: Path | None = None
    user_file: Path | None = None
    ca: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    proxy: str | None = None
    mappings: Path | None = None
    site: Path | None = None
    state: Path | None = None
    write_token_file: Path | None = None
    write_user_file: Path | None = None


_WORDS = {"server", "write_to", "proxy"}


def settings(given: Mapping[str, Any], config: Path | None, environment: Mapping[str, str] | None = None) -> Settings:
    """Options first, then `FHIR_SCREEN_*`, then the TOML file; a key that nobody knows is an error."""
    names = [f.name for f in fields(Settings)]
    around = os.environ if environment is None else environment
    config = config or (Path(around[PREFIX + "CONFIG"]) if around.get(PREFIX + "CONFIG") else None)
    found: dict[str, Any] = _from_file(config, names) if config else {}
    found |= {name: around[PREFIX + name.upper()] for name in names if around.get(PREFIX + name.upper())}
    found |= {name: value for name, value in given.items() if value is not None}
    typed: dict[str, Any] = {name: Path(value) if name not in _WORDS else str(value) for name, value in found.items()}
    return replace(Settings(), **typed)


def state_folder(environment: Mapping[str, str] | None = None) -> Path:
    """Where the records of nights lie unless it is said (XDG base directories)."""
    around = os.environ if environment is None else environment
    return Path(around.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "fhir-screen"


def _from_file(path: Path, names: list[str]) -> dict[str, Any]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as cause:
        raise UsageError(f"{path} cannot be read: {cause.strerror}", remedy="check --config, or FHIR_SCREEN_CONFIG") from cause
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as cause:
        raise UsageError(f"not TOML: {cause}", where=str(path), remedy='a line is name = "value", in UTF-8') from cause
    for name in content:
        if name not in names:
            near = get_close_matches(name, names, n=1)
            remedy = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
            raise UsageError(f"unknown key {name!r}", where=str(path), remedy=remedy)
        if not isinstance(content[name], str):
            raise UsageError(f"{name} is not a text", where=str(path), remedy=f'write {name} = "…"')
    return {name: path.parent / value if name not in _WORDS else value for name, value in content.items()}
