"""A server that misbehaves on the wire in ways no HTTP library will: cut bodies, lies about length, drips, silence."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from types import TracebackType

Act = Callable[[socket.socket], None]
"""What is done with a connection once one whole request has been read from it; the connection is closed after that."""


def whole(body: bytes, status: str = "200 OK", headers: str = "Content-Type: application/fhir+json\r\n") -> Act:
    head = f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
    return lambda peer: peer.sendall(head + body)


def cut(body: bytes) -> Act:
    """The length is announced, half of it comes."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/fhir+json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    return lambda peer: peer.sendall(head + body[: len(body) // 2])


def cut_chunked(body: bytes) -> Act:
    """One chunk comes, and the last one, which would say that this is all, never does."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/fhir+json\r\nTransfer-Encoding: chunked\r\n\r\n"
    half = body[: len(body) // 2]
    return lambda peer: peer.sendall(head + f"{len(half):x}\r\n".encode() + half + b"\r\n")


def cut_unmeasured(body: bytes) -> Act:
    """No length, no chunks: only the JSON itself shows that half of it is missing."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/fhir+json\r\nConnection: close\r\n\r\n"
    return lambda peer: peer.sendall(head + body[: len(body) // 2])


def hang_up(_: socket.socket) -> None:
    """The request is read, and nothing is ever answered."""


def silent(peer: socket.socket) -> None:
    """Headers begin and stop; the connection stays open until the other side leaves."""
    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Ty")
    _wait_for_goodbye(peer)


def stalled(peer: socket.socket) -> None:
    """Half a body, then nothing; the connection stays open until the other side leaves."""
    peer.sendall(b'HTTP/1.1 200 OK\r\nContent-Type: application/fhir+json\r\nContent-Length: 100\r\n\r\n{"resour')
    _wait_for_goodbye(peer)


def drip(peer: socket.socket) -> None:
    """One byte after the other, as long as somebody listens."""
    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/fhir+json\r\nContent-Length: 100000\r\n\r\n")
    _drip(peer, b" ")


def drip_headers(peer: socket.socket) -> None:
    peer.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
    _drip(peer, b"x")


def _drip(peer: socket.socket, drop: bytes) -> None:
    try:
        for _ in range(60_000):
            peer.sendall(drop)
    except OSError:
        return
    _wait_for_goodbye(peer)


def _wait_for_goodbye(peer: socket.socket) -> None:
    try:
        while peer.recv(4096):
            pass
    except OSError:
        return


class TornServer:
    """Answers connection after connection with one act each, the last one for ever; ends with its `with` block.

    ``heard`` are the requests as they came, byte for byte, without the TLS around them.
    """

    def __init__(self, acts: Sequence[Act], tls: ssl.SSLContext | None = None) -> None:
        self._acts, self._tls = list(acts), tls
        self._door = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)
        self.heard: list[bytes] = []

    @property
    def base(self) -> str:
        return f"{'https' if self._tls else 'http'}://localhost:{self._door.getsockname()[1]}/fhir"

    def __enter__(self) -> TornServer:
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                raw, _ = self._door.accept()
            except OSError:
                return
            with raw:
                self._receive(raw)

    def _receive(self, raw: socket.socket) -> None:
        try:
            with self._tls.wrap_socket(raw, server_side=True) if self._tls else raw as peer:
                request = _request(peer)
                if request:
                    self.heard.append(request)
                    act = self._acts.pop(0) if len(self._acts) > 1 else self._acts[0]
                    act(peer)
        except OSError:
            return  # the other side left, as it may


def _request(peer: socket.socket) -> bytes:
    heard = b""
    while b"\r\n\r\n" not in heard:
        part = peer.recv(65536)
        if not part:
            return heard
        heard += part
    head, _, body = heard.partition(b"\r\n\r\n")
    lengths = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    while lengths and len(body) < lengths[0]:
        body += peer.recv(65536)
    return head + b"\r\n\r\n" + body
