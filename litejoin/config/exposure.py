"""Checks of what a config exposes: addresses and paths that clash, public addresses, secrets in
clear.

Called by `check` with the repaired document. Conservative about secrets: only fields that hold
secrets by their meaning, and values that no variable filled.
"""

from collections.abc import Iterator

from litejoin.config.diagnostics import Diagnostics, pointer_of
from litejoin.config.document import Document
from litejoin.config.nodes import Node, Scalar
from litejoin.config.schema import marks
from litejoin.config.secrecy import MIN_SECRET, SECRET_NAME, secret_in_url
from litejoin.config.shape import Path, Shape
from litejoin.config.values import parse_address
from litejoin.plan.nodes import Address


def check_exposure(document: Document, shape: Shape, found: Diagnostics) -> None:
    """Add findings about addresses and secrets."""
    addresses = list(_addresses(document))
    _check_clashes(document, addresses, found)
    _check_webhooks(document, found)
    if not document.get("/server/auth/tokens"):
        _check_public(document, addresses, found)
    _check_secrets(shape, found)


def _addresses(document: Document) -> Iterator[tuple[str, Address]]:
    """Listening addresses that are written in the config, with their pointers."""
    pointers = [f"/sources/{at}/config/addr" for at in range(len(document.value["sources"]))]
    pointers += [f"/sinks/{at}/config/addr" for at in range(len(document.value["sinks"]))]
    for pointer in [*pointers, "/server/addr"]:
        text = document.get(pointer)
        if text is not None and document.has(pointer) and not document.is_unknown(pointer):
            yield pointer, parse_address(text)


def _check_clashes(
    document: Document, addresses: list[tuple[str, Address]], found: Diagnostics
) -> None:
    by_port: dict[int, dict[Address, str]] = {}
    for pointer, address in addresses:
        known = by_port.setdefault(address.port, {})
        for other, where in known.items():
            if other.host != address.host and _overlap(other, address):
                line = document.place(where).line
                message = f"{address} cannot be listened on beside {other} (line {line})"
                hint = "use one address for both, which then share a listener, or another port"
                found.add(document.finding("LJ205", pointer, message, hint=hint))
                break
        known.setdefault(address, pointer)


def _overlap(one: Address, other: Address) -> bool:
    """For one port: all interfaces hold every address, and a host may have two spellings."""
    return not one.host or not other.host or _host(one) == _host(other)


def _host(address: Address) -> str:
    """`localhost` is 127.0.0.1: two spellings of one listener."""
    return "127.0.0.1" if address.host == "localhost" else address.host.lower()


def _check_webhooks(document: Document, found: Diagnostics) -> None:
    """`/ingest/{topic}` of one address has one source, which knows its key and its secret."""
    taken: dict[tuple[Address, str], str] = {}
    for at in range(len(document.value["sources"])):
        pointer = f"/sources/{at}"
        if not document.has(f"{pointer}/config/webhook"):
            continue
        if document.is_unknown(f"{pointer}/config/addr"):
            continue
        address = document.get(f"{pointer}/config/addr")
        topics = document.get(f"{pointer}/topics", [])
        places = {f"{pointer}/topics/{n}": topic for n, topic in enumerate(topics)}
        for place, topic in (places or {pointer: "{topic}"}).items():
            known = taken.setdefault((parse_address(address), topic), place)
            if known != place:
                line = document.place(known).line
                message = f"/ingest/{topic} at {address} is taken by the source on line {line}"
                hint = "list other topics here, or listen on another address"
                found.add(document.finding("LJ222", place, message, hint=hint))


def _check_public(
    document: Document, addresses: list[tuple[str, Address]], found: Diagnostics
) -> None:
    warned: set[Address] = set()
    for pointer, address in addresses:
        if address.is_public and address not in warned:
            warned.add(address)
            where = "all interfaces" if not address.host else address.host
            message = f"{address} listens on {where} without auth"
            hint = f"listen on 127.0.0.1:{address.port}, or set server.auth.tokens"
            found.add(document.finding("LJ260", pointer, message, hint=hint))


def _check_secrets(shape: Shape, found: Diagnostics) -> None:
    for path, node in shape.nodes.items():
        if not isinstance(node, Scalar) or node.pieces or len(node.text) < MIN_SECRET:
            continue
        schema = shape.schemas[path]
        if path[-2:-1] == ("params",) and SECRET_NAME.search(str(path[-1])):
            _warn(node, path, f'the parameter "{path[-1]}"', found)
        elif marks(schema).get("secret") and _is_secret_field(path):
            _warn(node, path, _field(path), found)
        elif schema.get("format") in ("url", "replica-url"):
            name = secret_in_url(node.text)
            if name:
                _warn(node, path, name, found)


def _is_secret_field(path: Path) -> bool:
    """Every header is redacted, but only some of them are secret."""
    is_header = len(path) > 1 and path[-2] == "headers"
    return not is_header or SECRET_NAME.search(str(path[-1])) is not None


def _field(path: Path) -> str:
    if isinstance(path[-1], int):
        return "a token"
    return f"the header {path[-1]}" if path[-2:-1] == ("headers",) else f"the {path[-1]}"


def _warn(node: Node, path: Path, what: str, found: Diagnostics) -> None:
    message = f"{what} is written in clear"
    hint = "use ${NAME} or ${file:/run/secrets/name}"
    found.node(node, "LJ261", message, hint=hint, pointer=pointer_of(path))
