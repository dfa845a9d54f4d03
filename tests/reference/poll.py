"""What diff.Snapshot does, in plain Python: records in a dict, no hashes, no shortcuts."""

from collections.abc import Sequence

from tests.reference import diff, gjson


class Refused(Exception):
    """The page cannot be used; the set is as before."""


class Poll:
    def __init__(self, response: str, keys: Sequence[str], ignore: Sequence[str] = ()) -> None:
        self.response, self.keys, self.ignore = response, keys, ignore
        self.known: dict[bytes, bytes] = {}
        self.missed: set[bytes] = set()
        self.seen: set[bytes] = set()

    def begin(self) -> None:
        self.seen = set()

    def compare(self, body: bytes) -> tuple[dict[bytes, tuple[bool, bytes]], int, int, int]:
        """(changes, records, duplicates, keyless) of one page."""
        found = gjson.get(body, self.response)
        if found is None or found[:1] not in (b"[", b"{"):
            raise Refused
        node = diff.parse(found)
        records = [e.raw for e in node.elements] if node.kind == diff.ARRAY else [found]
        changes: dict[bytes, tuple[bool, bytes]] = {}
        duplicates = keyless = 0
        for record in records:
            key = gjson.key_of(record, self.keys)
            if key is None:
                keyless += 1
                continue
            duplicates += key in self.seen
            self.seen.add(key)
            self.missed.discard(key)
            changes.pop(key, None)
            before = self.known.get(key)
            if before is None or diff.changes(before, record, self.ignore) is not None:
                changes[key] = (before is None, record)
        return changes, len(records), duplicates, keyless

    def apply(self, changes: dict[bytes, tuple[bool, bytes]]) -> None:
        self.known |= {key: record for key, (_, record) in changes.items()}

    def missing(self) -> set[bytes]:
        return set(self.known) - self.seen

    def forget(self, keys: Sequence[bytes]) -> None:
        for key in keys:
            self.known.pop(key, None)
            self.missed.discard(key)
