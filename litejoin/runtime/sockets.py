"""Listening sockets and TLS contexts, from the plan's addresses and files.

Bound by ourselves, before anything is served, so that a taken address is a clear refusal to start
and not a half-started process. Called by `Listeners` only.
"""

import errno
import logging
import socket
import ssl
from pathlib import Path

from litejoin.errors import StartRefusedError
from litejoin.plain_files import check_plain
from litejoin.plan.nodes import Address

log = logging.getLogger("litejoin.http")

BACKLOG = 512
"""Connections that the kernel accepts ahead of us; a burst of clients after a pause fits."""


def bind(address: Address) -> list[socket.socket]:
    """Listening sockets for an address: one, or one per family for a name such as localhost.

    A taken default address (not from the config) gives way to a free port. Raises
    StartRefusedError.
    """
    try:
        return bind_exactly(address)
    except OSError as error:
        if address.explicit or error.errno != errno.EADDRINUSE:
            raise StartRefusedError(
                f"http: cannot listen on {address}: {error.strerror or error}", hint=hint(error)
            ) from error
    sockets = bind_exactly(Address(address.host, 0, explicit=False))
    port = sockets[0].getsockname()[1]
    log.warning(
        "http: %s, the default address, is taken; using port %d (server.addr sets one)",
        address,
        port,
    )
    return sockets


def hint(error: OSError) -> str:
    """What to do about an address that cannot be bound."""
    if error.errno == errno.EADDRINUSE:
        return "stop the program that listens there, or change the address in the config"
    if error.errno == errno.EACCES:
        return "ports below 1024 need a privilege; use a higher one"
    return "the address must be one of this machine's"


def bind_exactly(address: Address) -> list[socket.socket]:
    """Bind every address that the host stands for. Raises OSError."""
    if address.host == "":
        return [bind_all_interfaces(address.port)]
    sockets: list[socket.socket] = []
    port = address.port
    flags = socket.AI_PASSIVE
    found = socket.getaddrinfo(address.host, port, type=socket.SOCK_STREAM, flags=flags)
    try:
        for family, _, _, _, name in dict.fromkeys(found):
            try:
                sockets.append(listen(family, (str(name[0]), port)))
            except OSError as error:
                # A name that also stands for ::1 on a machine without IPv6.
                if not (sockets and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)):
                    raise
            port = port or sockets[0].getsockname()[1]
    except OSError:
        for bound in sockets:
            bound.close()
        raise
    return sockets


def bind_all_interfaces(port: int) -> socket.socket:
    """One socket for IPv6 and IPv4, or for IPv4 alone where there is no IPv6."""
    if socket.has_dualstack_ipv6():
        return listen(socket.AF_INET6, ("::", port), dualstack=True)
    return listen(socket.AF_INET, ("0.0.0.0", port))


def listen(family: int, name: tuple[str, int], *, dualstack: bool = False) -> socket.socket:
    """A listening, non-blocking socket that a new process can take over at once after a restart."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not dualstack))
        sock.bind(name)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def tls_context(cert_file: Path, key_file: Path | None) -> ssl.SSLContext:
    """TLS 1.2 or newer with this certificate. Raises StartRefusedError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        check_plain(cert_file, key_file)
        context.load_cert_chain(cert_file, key_file)
    except (OSError, ssl.SSLError) as error:
        raise StartRefusedError(
            f"http: cannot use the certificate {cert_file}: {error}",
            hint="server.tls needs a PEM certificate chain and its key",
        ) from error
    return context
