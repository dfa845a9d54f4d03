"""urllib3's connections, watched: another thread can cut the socket of the running request.

Used by `transport` only. A timeout of the socket alone would restart with every byte that trickles
in. Also notices a host that resolved to another machine before and to this one now, or to a
link-local address, where clouds keep their credentials: a rebound name must not be sent ours.
"""

import ipaddress
import socket
from threading import Lock
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from litejoin.errors import PollError


class Watch:
    """The socket of the running request. `cut` comes from any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._socket: socket.socket | None = None
        self._running = False
        self._stopped = ""
        self._outside: set[str] = set()
        self.reason = ""
        self.connected = False

    def start(self) -> None:
        with self._lock:
            self._running = True
            self.reason = self._stopped
        if self.reason:
            raise PollError(self.reason)

    def stop(self) -> None:
        with self._lock:
            self._running = False

    def opened(self, host: str, sock: socket.socket) -> None:
        """A connection was made. Raises PollError when `host` has moved to loopback."""
        self._judge(host, sock)
        with self._lock:
            self.connected = True
            self._socket = sock
            if self.reason:
                self._shut()

    def _judge(self, host: str, sock: socket.socket) -> None:
        if sock.family not in (socket.AF_INET, socket.AF_INET6):
            return
        try:
            peer = sock.getpeername()[0]
        except OSError:
            return  # gone already: the request will say so
        if not is_local(peer):
            self._outside.add(host)
        elif host in self._outside:
            sock.close()
            raise PollError(f"{host} resolved to another machine before and to this one now")

    def cut(self, reason: str, *, for_good: bool = False) -> None:
        with self._lock:
            if for_good:
                self._stopped = reason
            if self._running and not self.reason:
                self.reason = reason
                self._shut()

    def _shut(self) -> None:
        if self._socket is None:
            return
        try:
            # Not SSLSocket.shutdown: that would take the session away under the reading thread.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
        except OSError:
            self._socket = None  # closed already: the reader has its error


def is_local(peer: str) -> bool:
    """Does this address lead to this machine, or to what only its network segment may ask?"""
    address = ipaddress.ip_address(peer.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback or address.is_link_local or address.is_unspecified


def watched_pools(watch: Watch) -> tuple[type[HTTPConnectionPool], type[HTTPSConnectionPool]]:
    """Pool classes whose connections tell `watch` of their sockets before anything is sent."""

    class Plain(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            sock = super()._new_conn()
            watch.opened(self.host, sock)
            return sock

    class Tls(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            sock = super()._new_conn()
            watch.opened(self.host, sock)
            return sock

        def connect(self) -> None:
            super().connect()
            sock: Any = self.sock
            if isinstance(sock, socket.socket):
                watch.opened(self.host, sock)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class TlsPool(HTTPSConnectionPool):
        ConnectionCls = Tls

    return PlainPool, TlsPool
