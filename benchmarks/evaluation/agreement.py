"""Accuracy metrics beside three other libraries', from scores to figures, ties included."""

import json
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np
import torch

from sasrec.data.packed import EvaluationSet, PackedSequences
from sasrec.scoring.metrics import accuracy
from sasrec.scoring.ranking import target_ranks, top_k

USERS, ITEMS = 500, 60
CUTOFFS = (1, 5, 10, 20)
TOLERANCE = 1e-6
TREC_MEASURES = {
    "hr": ir_measures.Success,
    "recall": ir_measures.R,
    "ndcg": ir_measures.nDCG,
    "mrr": ir_measures.RR,
    "map": ir_measures.AP,
}


def measure_agreement(reference_python: str) -> dict[str, Any]:
    """The largest difference of any user's figure, by library and metric.

    Args:
        reference_python: an interpreter with RecTools and ranx.
    """
    cases = [Case(tied, k) for tied in (False, True) for k in CUTOFFS]
    versions, answers = _ask_others(reference_python, cases)
    largest: dict[str, dict[str, float]] = {}
    for case, others in zip(cases, answers, strict=True):
        for library, values in {"ir_measures": case.by_trec_eval(), **others}.items():
            kind = f"{library}, {'tied' if case.tied else 'distinct'} scores"
            of_kind = largest.setdefault(kind, dict.fromkeys(TREC_MEASURES, 0.0))
            for name, theirs in values.items():
                difference = np.abs(case.ours[f"{name}@{case.k}"] - theirs).max()
                of_kind[name] = max(of_kind[name], float(difference))
    worst = max(value for of_kind in largest.values() for value in of_kind.values())
    return {
        "users": USERS,
        "items": ITEMS,
        "cutoffs": CUTOFFS,
        "versions": versions | {"ir_measures": version("ir_measures")},
        "largest_difference": largest,
        "equal_to_6_decimals": worst < TOLERANCE,
    }


class Case:
    """Random users with one to twelve relevant items, ranked by scores that are tied or not."""

    name = "random"

    def __init__(self, tied: bool, k: int) -> None:
        rng = np.random.default_rng(k)
        self.tied, self.k = tied, k
        scores = rng.normal(size=(USERS, ITEMS + 1))
        self.scores = (np.round(scores) if tied else scores).astype(np.float32)
        self.scores[:, 0] = -np.inf
        self.relevant = [
            1 + rng.choice(ITEMS, rng.integers(1, 13), replace=False) for _ in range(USERS)
        ]
        histories = _pack(1 + np.stack(np.divmod(np.arange(USERS), ITEMS), axis=1))  # no two equal
        self._row_of = {items.tobytes(): row for row, items in enumerate(histories)}
        users = [f"{row:06}" for row in range(USERS)]
        evaluation = EvaluationSet("random", users, histories, _pack(self.relevant))
        ranks = target_ranks(self, evaluation, filter_seen=False)
        self.ours = accuracy(ranks, evaluation.targets.cu_seqlens, k)
        self.ranking, _ = top_k(self, histories, ITEMS, filter_seen=False)

    def logits(self, histories: PackedSequences) -> torch.Tensor:
        """(B, V + 1): each user's scores, found by the history."""
        return torch.from_numpy(self.scores[[self._row_of[h.tobytes()] for h in histories]])

    def by_trec_eval(self) -> dict[str, list[float]]:
        """trec_eval's figures from the scores themselves.

        It puts the greater document id first among equal scores, so ids count down in our order.
        The reciprocal rank with a cutoff is another program's, which orders ids the other way
        round: it is asked without one.
        """
        qrels, run = [], []
        for user, (items, order) in enumerate(zip(self.relevant, self.ranking, strict=True)):
            document = {item: f"{ITEMS - place:06}" for place, item in enumerate(order.tolist())}
            query = f"{user:06}"
            qrels += [ir_measures.Qrel(query, document[item], 1) for item in items.tolist()]
            run += [
                ir_measures.ScoredDoc(query, document[item], float(self.scores[user, item]))
                for item in order.tolist()
            ]
        found = {}
        for name, measure in TREC_MEASURES.items():
            asked = measure if name == "mrr" else measure @ self.k
            of_query = {m.query_id: m.value for m in ir_measures.iter_calc([asked], qrels, run)}
            found[name] = [of_query[f"{user:06}"] for user in range(USERS)]
        found["mrr"] = [value if value >= 1 / self.k else 0.0 for value in found["mrr"]]
        return found


def _ask_others(
    python: str, cases: list[Case]
) -> tuple[dict[str, str], list[dict[str, dict[str, list[float]]]]]:
    """Their versions, and for each case: library -> metric -> value of each user."""
    script = Path(__file__).with_name("reference_metrics.py")
    asked = [
        {
            "relevant": [items.tolist() for items in case.relevant],
            "ranking": case.ranking.tolist(),
            "k": case.k,
        }
        for case in cases
    ]
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "cases.json"
        path.write_text(json.dumps(asked))
        done = subprocess.run([python, script, path], capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout.splitlines()[-1])
    return answer["versions"], answer["cases"]


def _pack(lists: Any) -> PackedSequences:
    items = np.concatenate(list(lists)).astype(np.int64)
    cu_seqlens = np.cumsum([0, *map(len, lists)]).astype(np.int32)
    return PackedSequences(items, cu_seqlens, np.arange(len(items)))
