"""Event logs as serving writes them, from a simulated traffic with everything that goes wrong."""

import numpy as np

from serving.events.writer import frame

MINUTE = 60_000_000
START = 1_800_000_000_000_000


def traffic(*, users=40, lists=600, seed=0):
    """Records of some hours, in the order of their arrival: retries, late and foreign clicks."""
    rng = np.random.default_rng(seed)
    records, shown = [], []
    for number in range(lists):
        at = START + number * MINUTE // 4
        items = [f"i{i}" for i in rng.choice(50, 10, replace=False)]
        user = None if rng.random() < 0.05 else f"u{rng.integers(users)}"
        version = "aaaa" if rng.random() < 0.7 else "bbbb"
        shown.append((f"r{number}", user, items, at))
        records.append(impression(f"r{number}", user, items, at, version))
        if rng.random() < 0.05:
            records.append(impression(f"r{number}", user, items[::-1], at + 1, version))
        for event in range(rng.poisson(1.5)):
            request, owner, of, _ = shown[-1 - rng.integers(min(len(shown), 20))]
            item = of[rng.integers(10)] if rng.random() < 0.5 else f"i{rng.integers(60)}"
            owner = f"u{rng.integers(users)}" if owner is None or rng.random() < 0.1 else owner
            record = {
                "type": "event",
                "event_id": f"e{number}-{event}",
                "request_id": request if rng.random() < 0.6 else None,
                "user_id": owner,
                "item_id": item,
                "event_type": "click",
                "timestamp": at - 1000,
                "received_at": at + int(rng.integers(2, 10_000_000)),
            }
            records += [record] * (1 + (rng.random() < 0.1))
    return sorted(records, key=lambda r: r.get("received_at", r["timestamp"]))


def impression(request_id, user_id, item_ids, at, version, **fields):
    k = len(item_ids)
    return {
        "type": "impression",
        "request_id": request_id,
        "user_id": user_id,
        "timestamp": at,
        "policy": "epsilon_greedy",
        "model_version": version,
        "degraded": None,
        "seed": 0,
        "history_length": 3,
        "history_hash": "",
        "candidates": 50,
        "eligible": 50,
        "item_ids": item_ids,
        "scores": [float(k - i) for i in range(k)],
        "propensities": [0.9] * k,
        "explored": [False] * k,
    } | fields


def write_log(folder, records, *, writers=3):
    """Spread over the segments of several workers, each in the order of arrival."""
    folder.mkdir(parents=True, exist_ok=True)
    for writer in range(writers):
        path = folder / f"{START:016d}-{writer:08x}.log"
        path.write_bytes(b"".join(map(frame, records[writer::writers])))
