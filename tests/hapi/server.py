"""How a real HAPI FHIR server is built, started on loopback, filled and ended.

    python tests/hapi/server.py [--fhir R4|R5] [--port 0] [--page-max N] [--forbidden TYPE ...] [--load PATH ...]

The first line on standard output is the base URL, written when the server answers and the data are in. The server ends
on SIGTERM, on Ctrl-C, and with the process that started it, even when that one is killed.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, Any

HERE = Path(__file__).resolve().parent
TARGET = HERE / "target"
STARTS_WITHIN = 180.0
"""Seconds: R4 takes about 15 and R5 about 30 on two idle cores, but test machines are seldom idle."""
ENTRIES_PER_TRANSACTION = 2000

JVM = ("-Xmx1g", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+ExitOnOutOfMemoryError")

# A proxy of the environment has no business on loopback.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class HapiError(Exception):
    """The server could not be built, started or filled; the message says what happened and where the log lies."""


@contextmanager
def running(
    fhir: str = "R4",
    forbidden: Sequence[str] = (),
    *,
    data: Iterable[Path | str] = (),
    port: int = 0,
    page_max: int | None = None,
) -> Iterator[str]:
    """A server of its own for the length of a `with`; yields its base URL.

    `forbidden` are the resource types for which search answers 403. `page_max` caps `_count`, silently as HAPI does.
    `data` is loaded (see `load`) into a server that takes what others wrote as it is: dangling and absolute references
    and purely numeric ids stay, and new resources get UUIDs. Without `data` the server refuses these, as HAPI's
    defaults do. Raises `HapiError`.
    """
    with _process(fhir, forbidden, data, port, page_max) as (base_url, _):
        yield base_url


@contextmanager
def _process(
    fhir: str, forbidden: Sequence[str], data: Iterable[Path | str], port: int, page_max: int | None
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    build()
    paths = list(data)
    # Patients from elsewhere point to practitioners and places that did not come with them. Dropping these references
    # or inventing their targets would change the data; a server that does not check them leaves the data alone.
    properties = {"forbidden": ",".join(forbidden), "foreignData": "true" if paths else "false"}
    if page_max is not None:
        properties["page.max"] = str(page_max)
    log_path = TARGET / f"server-{fhir}-{os.getpid()}-{time.monotonic_ns()}.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [*_java(properties), "fhirscreen.hapi.Main", fhir, str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    try:
        base_url = _ready(process, fhir, log_path)
        if paths:
            load(base_url, paths)
        yield base_url, process
    finally:
        _end(process)


def load(base_url: str, paths: Iterable[Path | str]) -> int:
    """PUT every resource of the files under its own id and answer how many there were.

    A folder stands for every `*.json` in it. A file holds a resource or a Bundle of any type, which is taken apart:
    references to a `fullUrl` become `Type/id`, other `urn:` references logical ones, and nothing else is changed. When
    two files hold the same `Type/id`, the later one counts. Raises `HapiError` with the server's words when it refuses.
    """
    files = [_resources(path) for path in _json_files(paths)]
    local = {url: f"{resource['resourceType']}/{resource['id']}" for file in files for url, resource in file if url}
    total = 0
    for batch in _batches(files):
        entries = [
            {"resource": _relinked(resource, local), "request": {"method": "PUT", "url": name}}
            for name, resource in batch.items()
        ]
        _post(base_url, {"resourceType": "Bundle", "type": "transaction", "entry": entries})
        total += len(entries)
    return total


def missing_tools() -> list[str]:
    """The programs that are needed and not there: some of `java`, `mvn`."""
    return [tool for tool in ("java", "mvn") if shutil.which(tool) is None]


def build() -> None:
    """Compile the server and collect its class path, unless that was done for these very sources; raises `HapiError`.

    The file lock lets one of several starters build while the others wait. Maven inherits it, so that a Maven whose
    starter was killed still keeps the next one waiting.
    """
    TARGET.mkdir(exist_ok=True)
    with (TARGET / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = TARGET / "built-from"
        fingerprint = _fingerprint()
        if stamp.is_file() and stamp.read_text() == fingerprint and all(map(os.path.exists, _class_path())):
            return
        stamp.unlink(missing_ok=True)
        _maven(lock)
        stamp.write_text(fingerprint)


def _maven(lock: IO[str]) -> None:
    command = ["mvn", "-B", "compile", "dependency:build-classpath", "-DincludeScope=runtime"]
    log_path = TARGET / "build.log"
    try:
        with log_path.open("wb") as log:
            done = subprocess.run(
                [*command, f"-Dmdep.outputFile={TARGET / 'classpath'}"],
                cwd=HERE,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(lock.fileno(),),
                check=False,
            )
    except FileNotFoundError as error:
        raise HapiError("building the test server: mvn is not on the PATH; install Maven and a JDK 17") from error
    if done.returncode != 0:
        raise HapiError(f"building the test server failed ({log_path}):\n{_tail(log_path)}")


def _fingerprint() -> str:
    digest = hashlib.sha256()
    for path in [HERE / "pom.xml", *sorted(p for p in (HERE / "src").rglob("*") if p.is_file())]:
        digest.update(f"{path.relative_to(HERE)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _class_path() -> list[str]:
    jars = (TARGET / "classpath").read_text().strip()
    return [str(TARGET / "classes"), *jars.split(os.pathsep)]


def _java(properties: Mapping[str, str]) -> list[str]:
    settings = [f"-D{name}={value}" for name, value in properties.items()]
    return ["java", *JVM, *settings, "-cp", os.pathsep.join(_class_path())]


def _ready(process: subprocess.Popen[bytes], fhir: str, log_path: Path) -> str:
    """The base URL, once `/metadata` there answers for the release asked for."""
    assert process.stdout is not None
    deadline = time.monotonic() + STARTS_WITHIN
    readable, _, _ = select.select([process.stdout], [], [], STARTS_WITHIN)
    base_url = process.stdout.readline().decode().strip() if readable else ""
    if not base_url:
        what = "ended while starting" if readable else f"did not start within {STARTS_WITHIN:.0f} s"
        raise HapiError(f"HAPI {fhir} {what} ({log_path}):\n{_tail(log_path)}")
    try:
        with _direct.open(f"{base_url}/metadata", timeout=max(deadline - time.monotonic(), 1)) as answer:
            served = json.load(answer)["fhirVersion"]
    except OSError as error:
        raise HapiError(f"HAPI {fhir}: {base_url}/metadata: {error} ({log_path}):\n{_tail(log_path)}") from error
    if not served.startswith({"R4": "4.", "R5": "5."}[fhir]):
        raise HapiError(f"HAPI {fhir}: {base_url} serves FHIR {served}")
    return base_url


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


def _tail(path: Path) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-40:])


def _json_files(paths: Iterable[Path | str]) -> Iterator[Path]:
    for path in map(Path, paths):
        if path.is_dir():
            yield from sorted(path.rglob("*.json"))
        else:
            yield path


def _resources(path: Path) -> list[tuple[str | None, dict[str, Any]]]:
    """The resources of a file, each with its `fullUrl` if it has one, all with an id."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_float=_as_written)
    except (OSError, ValueError) as error:
        raise HapiError(f"loading {path}: {error}") from error
    if not isinstance(content, dict) or "resourceType" not in content:
        raise HapiError(f"loading {path}: neither a FHIR resource nor a Bundle")
    if content["resourceType"] != "Bundle":
        return [(None, _identified(None, content))]
    return [
        (entry.get("fullUrl"), _identified(entry.get("fullUrl"), entry["resource"]))
        for entry in content.get("entry", [])
        if "resource" in entry and entry.get("search", {}).get("mode") != "outcome"
    ]


def _as_written(decimal: str) -> str:
    """A decimal as a marked string: `7.40` read as a float would reach the server as `7.4`."""
    return f"\0{decimal}"


def _json(value: object) -> bytes:
    return re.sub(r'"\\u0000([^"]*)"', r"\1", json.dumps(value)).encode()


def _identified(full_url: str | None, resource: dict[str, Any]) -> dict[str, Any]:
    if "id" in resource:
        return resource
    if full_url is not None and full_url.startswith("urn:uuid:"):
        return {**resource, "id": full_url.removeprefix("urn:uuid:")}
    # The same content gets the same id, so that loading a file twice leaves the server as it was.
    return {**resource, "id": hashlib.sha256(_json(resource)).hexdigest()}


def _batches(files: Iterable[list[tuple[str | None, dict[str, Any]]]]) -> Iterator[dict[str, dict[str, Any]]]:
    """Whole files together, by `Type/id`, until a transaction is big enough; a file is never cut.

    References inside a transaction may point in any direction, so small sets load into a strict server too.
    """
    batch: dict[str, dict[str, Any]] = {}
    for file in files:
        batch.update((f"{resource['resourceType']}/{resource['id']}", resource) for _, resource in file)
        if len(batch) >= ENTRIES_PER_TRANSACTION:
            yield batch
            batch = {}
    if batch:
        yield batch


def _relinked(value: Any, local: Mapping[str, str]) -> Any:
    """The same JSON with each `reference` to one of the full URLs turned into its `Type/id`.

    A `urn:` that is nobody's full URL (Synthea's CarePlan.goal) becomes a logical reference: HAPI refuses a transaction
    that leaves one unresolved (HAPI-0541), whatever its settings.
    """
    match value:
        case {"reference": str(url), **rest} if url in local:
            return {**rest, "reference": local[url]}
        case {"reference": str(url), **rest} if url.startswith("urn:"):
            return {"identifier": {"system": "urn:ietf:rfc:3986", "value": url}, **rest}
        case dict():
            return {key: _relinked(item, local) for key, item in value.items()}
        case list():
            return [_relinked(item, local) for item in value]
        case _:
            return value


def _post(base_url: str, bundle: dict[str, Any]) -> None:
    request = urllib.request.Request(
        base_url,
        data=_json(bundle),
        headers={"Content-Type": "application/fhir+json", "Prefer": "return=minimal"},
    )
    try:
        with _direct.open(request, timeout=300) as answer:
            answer.read()
    except urllib.error.HTTPError as error:
        raise HapiError(
            f"loading {len(bundle['entry'])} resources into {base_url}: HTTP {error.code}: "
            f"{error.read().decode(errors='replace')[:1500]}\n"
            "Only a server started with --load or running(data=...) takes dangling references and numeric ids."
        ) from error
    except OSError as error:
        raise HapiError(f"loading into {base_url}: {error}") from error


def _end_with_parent() -> None:
    """Turn the death of the process that started us into SIGTERM for us."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _stop(signum: int, _frame: FrameType | None) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # a second signal must not interrupt the ending
    raise SystemExit(128 + signum)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="A real HAPI FHIR JPA server on loopback, in memory.")
    parser.add_argument("--fhir", choices=("R4", "R5"), default="R4", help="release served (default: R4)")
    parser.add_argument("--port", type=int, default=0, help="0 (default) takes a free one")
    parser.add_argument("--page-max", type=int, metavar="N", help="largest page, whatever _count asks for")
    parser.add_argument(
        "--forbidden", nargs="+", action="extend", default=[], metavar="TYPE", help="search answers 403"
    )
    parser.add_argument("--load", nargs="+", action="extend", default=[], metavar="PATH", help="JSON files or folders")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    _end_with_parent()
    try:
        with _process(asked.fhir, asked.forbidden, asked.load, asked.port, asked.page_max) as (base_url, process):
            sys.stdout.write(f"{base_url}\n")
            sys.stdout.flush()
            sys.stderr.write("Ctrl-C ends the server, and all that it holds.\n")
            if asked.load:
                sys.stderr.write(f"try: fhir-screen screen {base_url} --as-of 2025-11-15 --format table\n")
            sys.exit(f"HAPI {asked.fhir} at {base_url} ended by itself with code {process.wait()}: see {TARGET}")
    except HapiError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
