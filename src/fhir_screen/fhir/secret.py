"""A secret in a file, which somebody may replace while we run; it is never quoted."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path

from fhir_screen.errors import UsageError


class Secret:
    """What an Authorization header says, from a file that may change while we run."""

    def __init__(self, path: Path, header_of: Callable[[str, Path], str]) -> None:
        self._path, self._header_of = path, header_of
        self._stamp: tuple[int, int, int] | None = None
        self._header = self.read()

    def header(self) -> str:
        try:
            return self._header if _stamp(self._path) == self._stamp else self.read()
        except (OSError, UsageError):
            return self._header  # being replaced at this moment: what we have may still be good

    def read(self) -> str:
        try:
            stamp = _stamp(self._path)
            text = self._path.read_text("utf-8").strip()
        except FileNotFoundError as error:
            raise UsageError("this file does not exist", where=str(self._path), remedy="check its name") from error
        except OSError as error:
            raise UsageError("the secret cannot be read", where=str(self._path), remedy="a file of your own") from error
        except UnicodeDecodeError:  # whose object would carry the secret on
            raise UsageError("the secret is not UTF-8 text", where=str(self._path), remedy="one line of text") from None
        self._header = self._header_of(text, self._path)
        self._stamp = stamp
        return self._header


def bearer(text: str, path: Path) -> str:
    if not re.fullmatch(r"[!-~]+", text):
        raise UsageError(
            "this is no bearer token", where=str(path), remedy="the file holds the token alone, on one line"
        )
    return f"Bearer {text}"


def basic(text: str, path: Path) -> str:
    user, colon, _ = text.partition(":")
    if not user or not colon or not text.isprintable():
        raise UsageError("no user and password are in here", where=str(path), remedy="one line, user:password")
    return f"Basic {base64.b64encode(text.encode()).decode()}"


def _stamp(path: Path) -> tuple[int, int, int]:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def open_to_others(path: Path | None) -> str:
    if path is None or not path.exists():
        return ""
    mode = path.stat().st_mode & 0o777
    return f"{path} can be read by others (mode {mode:04o}): chmod 600" if mode & 0o077 else ""
