"""A TCP proxy in front of a database server, which can cut connections, hold them up and count them.

with proxy(server.port) as between:
    url = between.url(url)          # the same database, through the proxy
    between.cut()                   # every connection, as when a cable is pulled: nobody is told but the two ends
    between.refusing = True         # new connections are closed at once
    between.stalled.set()           # bytes of the server are kept back, until it is cleared
    between.clogged.set()           # bytes of clients are kept back, until it is cleared
    between.cut_after(b"COMMIT")    # the next time a client sends this, it is passed on, and the answer is not
    between.cut_behind("sent", 100) # so many more bytes of clients are passed on, then the connection is cut

As a process of its own, `python -m tests.servers.proxy PORT SERVER`, it is a cable: killed, it resets every connection;
stopped, it swallows what is sent, and delivers it once it goes on.
"""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

Way = Literal["sent", "answered"]
"""From a client to the server, or back."""

CHUNK = 65_536


@dataclass(eq=False)
class _Link:
    """One connection, as its two sockets."""

    client: socket.socket
    server: socket.socket

    def close(self) -> None:
        for end in (self.client, self.server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@dataclass
class Proxy:
    """Made by `proxy`. `accepted` connections so far; `cuts` made by `cut_after`, `cut_before` and `cut_behind`."""

    port: int
    listener: socket.socket
    accepted: int = 0
    cuts: int = 0
    refusing: bool = False
    stalled: threading.Event = field(default_factory=threading.Event)
    clogged: threading.Event = field(default_factory=threading.Event)
    _links: set[_Link] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _trigger: bytes | None = None
    _stops_answer: bool = True
    _left: dict[Way, int] = field(default_factory=dict)

    def url(self, url: str) -> str:
        """The database at this URL, reached through the proxy."""
        parts = urlsplit(url)
        user, _, _ = parts.netloc.rpartition("@")
        own = self.listener.getsockname()[1]
        return urlunsplit(parts._replace(netloc=f"{user}@127.0.0.1:{own}"))

    def cut(self) -> None:
        with self._lock:
            links = list(self._links)
        for link in links:
            link.close()

    def cut_after(self, sent: bytes) -> None:
        """Passes on what a client sends with these bytes in it, waits until the server has answered, and cuts the
        connection instead of handing the answer over."""
        with self._lock:
            self._trigger, self._stops_answer = sent, True

    def cut_before(self, sent: bytes) -> None:
        """Cuts the connection instead of passing these bytes on."""
        with self._lock:
            self._trigger, self._stops_answer = sent, False

    def cut_behind(self, way: Way, passed: int) -> None:
        """Passes on only so many more bytes that way, of all connections, and cuts the connection of the next one."""
        with self._lock:
            self._left = {way: passed}

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.accepted += 1
            try:
                if self.refusing:
                    raise OSError("refused")
                server = socket.create_connection(("127.0.0.1", self.port), timeout=5)
                server.settimeout(None)
            except OSError:
                client.close()
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link = _Link(client, server)
            with self._lock:
                self._links.add(link)
            threading.Thread(target=self._carry, args=(link,), daemon=True).start()

    def _carry(self, link: _Link) -> None:
        """Both directions, until one end closes."""
        silenced = threading.Event()
        back = threading.Thread(target=self._carry_back, args=(link, silenced), daemon=True)
        back.start()
        with suppress(OSError):
            while data := link.client.recv(CHUNK):
                while self.clogged.is_set():
                    threading.Event().wait(0.01)
                rest = self._rest("sent", data)
                if rest is not None:
                    link.server.sendall(rest)
                    break
                cut = self._is_trigger(data)
                if cut and not self._stops_answer:
                    break
                if cut:
                    silenced.set()
                link.server.sendall(data)
        if not silenced.is_set():
            link.close()
        back.join()
        link.client.close()
        link.server.close()
        with self._lock:
            self._links.discard(link)

    def _carry_back(self, link: _Link, silenced: threading.Event) -> None:
        with suppress(OSError):
            while data := link.server.recv(CHUNK):
                while self.stalled.is_set():
                    threading.Event().wait(0.01)
                if silenced.is_set():
                    break
                rest = self._rest("answered", data)
                if rest is not None:
                    link.client.sendall(rest)
                    break
                link.client.sendall(data)
        link.close()

    def _rest(self, way: Way, data: bytes) -> bytes | None:
        """What is passed on of these bytes before the connection is cut; None where it is not cut."""
        with self._lock:
            left = self._left.get(way)
            if left is None:
                return None
            if left >= len(data):
                self._left[way] = left - len(data)
                return None
            self._left.clear()
            self.cuts += 1
            return data[:left]

    def _is_trigger(self, data: bytes) -> bool:
        with self._lock:
            if self._trigger is None or self._trigger not in data:
                return False
            self._trigger = None
            self.cuts += 1
            return True


@contextmanager
def proxy(port: int, own: int = 0) -> Iterator[Proxy]:
    """A proxy on 127.0.0.1, on its `own` port or a free one, for the server on `port`."""
    with socket.create_server(("127.0.0.1", own)) as listener:
        between = Proxy(port, listener)
        accepting = threading.Thread(target=between._serve, daemon=True)
        accepting.start()
        try:
            yield between
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            between.stalled.clear()
            between.clogged.clear()
            between.cut()


def main() -> None:
    own, port = map(int, sys.argv[1:])
    with proxy(port, own):
        threading.Event().wait()


if __name__ == "__main__":
    main()
