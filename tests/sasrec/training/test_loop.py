"""Learning, early stopping, the log, resuming, and what goes wrong."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sasrec.data.packed import EvaluationSet
from sasrec.data.vocabulary import Vocabulary
from sasrec.errors import DataError
from sasrec.training import loop as training
from tests.sasrec.cyclic_world import VOCABULARY, settings, world
from tests.sasrec.small_sequences import packed


def fit(run_dir, *, data=None, weights=None, warm_start=None, stop=None, **overrides):
    train, validation = data or world()
    chosen = settings(**overrides)
    return training.train(
        train,
        validation,
        VOCABULARY,
        chosen.model,
        chosen.train,
        run_dir,
        weights=weights,
        warm_start=warm_start,
        stop=stop,
    )


def losses(result):
    return [line["loss"] for line in result.history]


@pytest.mark.parametrize(
    "loss",
    [
        {"loss": "cross_entropy"},
        {"loss": "sampled_softmax", "negatives": 20},
        {"loss": "bpr", "negatives": 10},
        {"loss": "bce", "negatives": 4, "epochs": 10},
        {"loss": "gbce", "gbce_calibration": 0.25, "negatives": 4, "epochs": 15},
        {"loss": "bpr", "negatives": 1, "shared_negatives": False, "epochs": 6},
        {"loss": "sampled_softmax", "negatives": 40, "sampling": "in_batch"},
        {"loss": "cross_entropy", "precision": "bfloat16"},
    ],
)
def test_every_loss_learns_the_ring(tmp_path, loss):
    assert fit(tmp_path, **({"epochs": 4} | loss)).best_ndcg > 0.8


def test_same_seed_same_result_and_another_seed_another(tmp_path):
    first, again = fit(tmp_path / "a"), fit(tmp_path / "b")
    other = fit(tmp_path / "c", seed=1)
    assert losses(first) == losses(again) != losses(other)
    weights = [result.recommender.model.state_dict() for result in (first, again)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_the_caller_s_random_state_is_left_alone(tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    fit(tmp_path, epochs=1)
    assert torch.equal(torch.rand(1), expected)


def test_the_best_epoch_is_returned_and_patience_ends_the_run(tmp_path):
    result = fit(tmp_path, epochs=100, patience=2)
    scores = [line["ndcg@10"] for line in result.history]
    assert result.best_epoch == int(np.argmax(scores)) + 1
    assert result.best_ndcg == max(scores)
    assert len(scores) == result.best_epoch + 2 < 100


def test_no_epochs_give_the_untrained_model(tmp_path):
    result = fit(tmp_path, epochs=0)
    assert (result.best_epoch, result.history) == (0, [])
    assert 0 < result.best_ndcg < 0.5
    assert (tmp_path / "train.jsonl").read_text() == ""


def test_the_log_has_a_line_for_every_epoch(tmp_path):
    result = fit(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert lines == result.history
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert {"loss", "ndcg@10", "hr@10", "tokens_per_second", "seconds"} <= lines[0].keys()


def test_a_finished_run_returns_its_result_again(tmp_path):
    first = fit(tmp_path)
    again = fit(tmp_path)
    assert first.history == again.history
    assert first.best_ndcg == again.best_ndcg


def test_a_search_may_stop_a_training_after_an_epoch_and_go_on_later(tmp_path):
    asked = []

    def stop(epoch):
        asked.append(epoch)
        return epoch["epoch"] == 2

    stopped = fit(tmp_path / "a", epochs=3, stop=stop)
    assert stopped.history == asked
    assert len(asked) == 2
    assert losses(fit(tmp_path / "a", epochs=3)) == losses(fit(tmp_path / "b", epochs=3))


def test_more_epochs_continue_a_finished_run(tmp_path):
    fit(tmp_path / "short", epochs=2)
    assert losses(fit(tmp_path / "short", epochs=4)) == losses(fit(tmp_path / "long", epochs=4))


RUN = """
import sys, time
from pathlib import Path
from sasrec.training import loop as training
from tests.sasrec.training.test_loop import fit
training.CHECKPOINT_SECONDS = 0.0
fit(Path(sys.argv[1]), epochs=int(sys.argv[2]), patience=1000, dropout=0.2)
"""


@contextmanager
def started(run_dir, epochs):
    """A training in a process of its own, which never outlives the test."""
    command = [sys.executable, "-c", RUN, str(run_dir), str(epochs)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for_lines(path, count):
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        if path.exists() and path.read_text().count("\n") >= count:
            return
        time.sleep(0.02)
    raise AssertionError(f"{path} did not reach {count} lines")


@pytest.mark.parametrize("delay", [0.0, 0.137])
def test_sigkill_at_any_instant_loses_nothing(tmp_path, delay):
    with started(tmp_path / "killed", 2000):
        wait_for_lines(tmp_path / "killed" / "train.jsonl", 3)
        time.sleep(delay)
    done = (tmp_path / "killed" / "train.jsonl").read_text().count("\n")
    resumed = fit(tmp_path / "killed", epochs=done + 3, patience=1000, dropout=0.2)
    whole = fit(tmp_path / "whole", epochs=done + 3, patience=1000, dropout=0.2)
    assert losses(resumed) == losses(whole)
    lines = (tmp_path / "killed" / "train.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == list(range(1, done + 4))


def test_sigterm_saves_and_exits(tmp_path):
    with started(tmp_path, 2000) as process:
        wait_for_lines(tmp_path / "train.jsonl", 2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(200) == 128 + signal.SIGTERM
    done = (tmp_path / "train.jsonl").read_text().count("\n")
    # Only what is left of the epoch that was under way is trained again.
    assert len(fit(tmp_path, epochs=done + 1, patience=1000, dropout=0.2).history) == done + 1


def test_training_works_outside_the_main_thread(tmp_path):
    thread = threading.Thread(target=fit, args=(tmp_path,))
    thread.start()
    thread.join(60)
    assert (tmp_path / "train.jsonl").read_text().count("\n") == 3


def test_two_processes_train_as_one(tmp_path):
    script = (
        "import sys; from pathlib import Path; from tests.sasrec.training.test_loop import fit;"
        "fit(Path(sys.argv[1]), epochs=3, dropout=0.0, loss='sampled_softmax', negatives=25)"
    )
    (tmp_path / "run.py").write_text(script)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = os.environ | {"PYTHONPATH": str(Path.cwd()), "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [*command, str(tmp_path / "run.py"), str(tmp_path / "two")],
        check=True,
        env=environment,
        capture_output=True,
        timeout=120,
    )
    lines = (tmp_path / "two" / "train.jsonl").read_text().splitlines()
    two = [json.loads(line)["loss"] for line in lines]
    one = fit(tmp_path / "one", epochs=3, dropout=0.0, loss="sampled_softmax", negatives=25)
    assert two == pytest.approx(losses(one), rel=1e-4)


def test_weights_decide_what_is_learnt(tmp_path):
    train, _ = world()
    ones = np.ones(len(train.items), dtype=np.float32)
    assert losses(fit(tmp_path / "a", weights=ones)) == losses(fit(tmp_path / "b"))
    nothing = fit(tmp_path / "c", weights=np.zeros_like(ones))
    assert losses(nothing) == [0.0, 0.0, 0.0]
    assert nothing.best_ndcg < 0.5


def test_weights_of_events_and_of_the_caller_multiply_and_average_one(tmp_path):
    train, validation = world()
    weights = np.linspace(0.5, 3, len(train.items)).astype(np.float32)
    weighed = (replace(train, weights=weights), validation)
    of_events = losses(fit(tmp_path / "a", epochs=1, data=weighed))
    assert losses(fit(tmp_path / "b", epochs=1, weights=20 * weights)) == pytest.approx(
        of_events, rel=1e-3
    )
    both = losses(fit(tmp_path / "c", epochs=1, data=weighed, weights=1 / weights))
    assert both == pytest.approx(losses(fit(tmp_path / "d", epochs=1)), rel=1e-3)
    assert both != pytest.approx(of_events, rel=1e-3)


def test_selected_histories_bring_their_weights():
    sequences = replace(packed([[1, 2], [3], [4, 5, 6]]), weights=np.arange(6, dtype=np.float32))
    assert sequences.select(np.array([2, 0]), 2).weights.tolist() == [4, 5, 0, 1]


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    fit(tmp_path, epochs=1)
    with pytest.raises(DataError, match="use an empty run directory"):
        fit(tmp_path, epochs=1, dim=32)
    with pytest.raises(DataError, match="'data' is"):
        fit(tmp_path, epochs=1, data=world(seed=5))
    ones = np.ones(len(world()[0].items), dtype=np.float32)
    with pytest.raises(DataError, match="'weights' is None"):
        fit(tmp_path, epochs=1, weights=ones)
    with pytest.raises(DataError, match="'warm_start' is None"):
        fit(tmp_path, epochs=1, warm_start=fit(tmp_path / "champion", epochs=0).recommender)


def test_processes_draw_alike_only_what_they_share():
    def of_two(shared_negatives):
        seeds = np.random.SeedSequence([0, 1, 2])
        return [
            training._step_seeds(seeds, rank, 2, shared_negatives=shared_negatives)
            for rank in range(2)
        ]

    (first, one), (second, two) = of_two(shared_negatives=True)
    assert first == second
    assert len({first, one, two}) == 3
    (first, one), (second, two) = of_two(shared_negatives=False)
    assert len({first, second, one, two}) == 4


def test_a_loss_that_is_not_finite_names_the_step(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    train, _ = world()
    weights = np.ones(len(train.items), dtype=np.float32)
    weights[train.cu_seqlens[40] - 1] = np.nan
    with pytest.raises(DataError, match=r"loss is nan at step \d+ \(epoch 1, batch \d+\)"):
        fit(tmp_path, weights=weights)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((packed([]), world()[1]), "no events"),
        ((packed([[1], [2]]), world()[1]), "none of 2 users has 2 events"),
        ((packed([[1, 2, 31]]), world()[1]), r"item indices span 1\.\.31"),
        ((packed([[1, 0, 2]]), world()[1]), r"item indices span 0\.\.2"),
        ((world()[0], EvaluationSet("validation", [], packed([]), packed([]))), "no users"),
    ],
)
def test_bad_data_is_named_in_one_line(tmp_path, data, message):
    with pytest.raises(DataError, match=message) as caught:
        fit(tmp_path, data=data)
    assert "\n" not in str(caught.value)


def test_weights_of_another_length_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"weights: shape \(3,\)"):
        fit(tmp_path, weights=np.ones(3, dtype=np.float32))


def test_a_warm_start_continues_on_a_grown_vocabulary(tmp_path):
    champion = fit(tmp_path / "champion", epochs=8).recommender
    grown = VOCABULARY.extended(["item-31", "item-32"])
    train, validation = world(seed=3)
    chosen = settings(epochs=1)
    warm = training.train(
        train, validation, grown, chosen.model, chosen.train, tmp_path / "warm", warm_start=champion
    )
    cold = training.train(train, validation, grown, chosen.model, chosen.train, tmp_path / "cold")
    assert warm.best_ndcg > 0.9 > cold.best_ndcg


def test_a_warm_start_keeps_rows_by_item_and_not_by_index(tmp_path):
    champion = fit(tmp_path / "champion").recommender
    reordered = Vocabulary(["brand new", *reversed(VOCABULARY.item_ids)])
    train, validation = world()
    chosen = settings(epochs=0)
    # 31 items: index 1 is the new one, so the data still fits.
    warm = training.train(
        train, validation, reordered, chosen.model, chosen.train, tmp_path, warm_start=champion
    ).recommender
    old = champion.model.item_matrix()[champion.vocabulary.encode(["item-7"])]
    new = warm.model.item_matrix()[warm.vocabulary.encode(["item-7"])]
    assert torch.equal(old, new)
    known = champion.model.item_matrix()[1:]
    fresh = warm.model.item_matrix()[1]
    assert (fresh - known.mean(0)).norm() < 2 * known.norm(dim=1).mean()


def test_a_warm_start_of_another_architecture_is_refused(tmp_path):
    champion = fit(tmp_path / "champion", epochs=0).recommender
    with pytest.raises(DataError, match="model field 'dim' is 16 in the earlier model and 32"):
        fit(tmp_path / "other", dim=32, warm_start=champion)
    fit(tmp_path / "more dropout", dropout=0.5, epochs=0, warm_start=champion)


def test_the_averaged_weights_are_what_is_validated_and_returned(tmp_path):
    plain, averaged = fit(tmp_path / "a"), fit(tmp_path / "b", averaging=0.99)
    assert losses(plain) == losses(averaged)  # the path of training is the same
    assert not torch.equal(
        plain.recommender.model.item_matrix(), averaged.recommender.model.item_matrix()
    )
    resumed = fit(tmp_path / "c", averaging=0.99, epochs=1)
    resumed = fit(tmp_path / "c", averaging=0.99, epochs=3)
    assert resumed.best_ndcg == averaged.best_ndcg
