"""The same metrics by RecTools and ranx, in an interpreter of their own: they need an older numpy.

    python reference_metrics.py cases.json

Reads `[{"relevant": [[item, ...], ...], "ranking": [[item, ...], ...], "k": 10}, ...]`, a list of
users in each, and prints `{"versions": {library: version}, "cases": [{library: {metric: [value of
each user]}}, ...]}`. Imports nothing of this project.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import ranx
from rectools.metrics import MAP, MRR, NDCG, HitRate, Recall


def rectools_values(case):
    """RecTools reads the place of an item, so ties are already decided."""
    frames = {
        name: pd.DataFrame(
            [(u, item, place) for u, items in enumerate(case[name]) for place, item in items],
            columns=["user_id", "item_id", "rank"],
        )
        for name in ("relevant", "ranking")
    }
    k = case["k"]
    metrics = {
        "hr": HitRate(k=k),
        "recall": Recall(k=k),
        "ndcg": NDCG(k=k, divide_by_achievable=True),
        "mrr": MRR(k=k),
        "map": MAP(k=k),
    }
    relevant = frames["relevant"][["user_id", "item_id"]]
    return {
        name: metric.calc_per_user(frames["ranking"], relevant).sort_index().tolist()
        for name, metric in metrics.items()
    }


def ranx_values(case):
    """ranx sorts by score: minus the place."""
    users = range(len(case["relevant"]))
    qrels = ranx.Qrels({f"{u:06}": {str(i): 1 for _, i in case["relevant"][u]} for u in users})
    run = ranx.Run({f"{u:06}": {str(i): -float(p) for p, i in case["ranking"][u]} for u in users})
    names = {"hr": "hit_rate", "recall": "recall", "ndcg": "ndcg", "mrr": "mrr", "map": "map"}
    wanted = [f"{name}@{case['k']}" for name in names.values()]
    found = ranx.evaluate(qrels, run, wanted, return_mean=False, make_comparable=True)
    return {ours: found[f"{theirs}@{case['k']}"].tolist() for ours, theirs in names.items()}


def main():
    """One answer per case."""
    cases = json.loads(Path(sys.argv[1]).read_text())
    for case in cases:
        for name in ("relevant", "ranking"):
            case[name] = [list(enumerate(items, start=1)) for items in case[name]]
    answers = [{"rectools": rectools_values(c), "ranx": ranx_values(c)} for c in cases]
    versions = {name: version(name) for name in ("rectools", "ranx")}
    print(json.dumps({"versions": versions, "cases": answers}))


if __name__ == "__main__":
    main()
