"""The workload of the end-to-end benchmarks, the same on every machine: 100 k users, 200 k order
upserts (a fifth of them updates), 2 k user updates; one JSON message a line.
"""

import json
import random
from collections import Counter
from pathlib import Path

USERS, ORDERS, USER_UPDATES = 100_000, 200_000, 2_000
FIRST_TIMESTAMP_MS = 1_763_900_000_000


def write_workload(path: Path, *, share: int = 1) -> dict[str, int]:
    """Write the messages to `path`, 1/`share` of them; returns their number and the results that a
    join makes of them.
    """
    users, orders, user_updates = USERS // share, ORDERS // share, USER_UPDATES // share
    rng = random.Random(20261123)
    messages, owner = [], list[int]()

    def add(topic: str, key: str, payload: dict[str, object]) -> None:
        timestamp = FIRST_TIMESTAMP_MS + len(messages)
        messages.append({"topic": topic, "key": key, "payload": payload, "timestamp": timestamp})

    for i in range(users):
        name = f"Name {i} {rng.randrange(10**6):06d}"
        add("users", f"u{i:07d}", {"name": name, "email": f"user{i}@example.org"})
    for n in range(orders):
        if owner and rng.random() < 0.2:
            k = rng.randrange(len(owner))
        else:
            k = len(owner)
            owner.append(rng.randrange(users))
        amount = round(rng.uniform(1, 500), 2)
        order = {"user_id": f"u{owner[k]:07d}", "amount": amount, "note": f"n{n}"}
        add("orders", f"o{k:08d}", order)
    updated = rng.sample(sorted(set(owner)), user_updates)
    for i in updated:
        name = f"Renamed {i} {rng.randrange(10**6):06d}"
        add("users", f"u{i:07d}", {"name": name, "email": f"user{i}@example.net"})
    with path.open("w") as out:
        out.writelines(json.dumps(m, separators=(",", ":")) + "\n" for m in messages)
    orders_of = Counter(owner)
    results = orders + sum(orders_of[i] for i in updated)
    return {"messages": len(messages), "results_uncoalesced": results}
