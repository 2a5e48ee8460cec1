"""Judge a model by your own rules: `python examples/your_own_gate.py`.

`python pipeline.py run --gates FILE` takes such a file. Here it is asked by hand, about a bigram
model beside popularity, on people who go round thirty films in the same direction.
"""

import tempfile
from pathlib import Path

import numpy as np

from sasrec.data.packed import EvaluationSet, PackedSequences
from sasrec.data.vocabulary import Vocabulary
from sasrec.evaluation.catalogue import Catalogue
from sasrec.evaluation.evaluate import evaluate
from sasrec.gates import GateConfig, decide
from sasrec.scoring.baselines import BigramMarkov, Popularity

GATES = """
gates:
  - name: knows more than popularity
    check: better_than
    role: popularity
    metric: ndcg@10
    when_missing: refuse
  - name: shows nine tenths of the catalogue
    check: metric_bound
    metric: coverage@10
    minimum: 0.9
    when_missing: hold
"""
USERS, FILMS, EVENTS = 300, 30, 8


def rounds(first_step: int, steps: int) -> PackedSequences:
    """What every user did in these steps; item 0 is padding, so films count from 1."""
    step = first_step + np.arange(steps)
    films = (np.arange(USERS)[:, None] + step) % FILMS + 1
    hours = np.broadcast_to(3_600_000_000 * step, films.shape)  # microseconds
    cu_seqlens = np.arange(USERS + 1, dtype=np.int32) * steps
    return PackedSequences(films.ravel(), cu_seqlens, hours.ravel())


vocabulary = Vocabulary([f"film-{number}" for number in range(FILMS)])
past, future = rounds(0, EVENTS), rounds(EVENTS, 1)
evaluation = evaluate(
    BigramMarkov(past, FILMS),
    EvaluationSet("test", [f"user-{user}" for user in range(USERS)], past, future),
    Catalogue.build(vocabulary, past),
    split={"kind": "by hand", "sha256": "0" * 64},
    baselines=[Popularity(past, FILMS)],
)
with tempfile.TemporaryDirectory() as folder:
    gates = Path(folder) / "gates.yaml"
    gates.write_text(GATES)
    verdict = decide(evaluation, GateConfig.load(gates))
print(f"{verdict.decision}: {verdict.counts}")
for result in verdict.results:
    print(f"  {'passed' if result.passed else 'failed'}: {result.gate}: {result.reason}")
