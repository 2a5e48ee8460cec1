"""A search over settings: resumed, pruned, bounded, and what it writes."""

import json
import time

import pytest

from sasrec.errors import DataError, SettingsError
from sasrec.presets.file import read_preset
from sasrec.presets.named import PRESETS
from sasrec.training.loop import TrainResult
from sasrec.tuning.outcome import write_outcome
from sasrec.tuning.search import Search
from sasrec.tuning.space import Space

START = PRESETS["default"].with_overrides(epochs=2, learning_rate=0.01)
TEXTS = {"model.dropout": "0.0..0.5", "train.learning_rate": "0.001,0.01"}


class Trainer:
    """Stands in for training: an epoch's score follows from the preset, a folder keeps the epochs.

    It may be killed after a number of epochs.
    """

    def __init__(self, killed_after=None, score=lambda preset, epoch: epoch / 10):
        self.asked, self.folders, self.epochs = [], [], 0
        self.killed_after, self.score = killed_after, score

    def __call__(self, preset, folder, stop):
        self.asked.append(preset)
        self.folders.append(folder)
        folder.mkdir(parents=True, exist_ok=True)
        kept, history = folder / "train.jsonl", []
        if kept.exists():
            history = [json.loads(line) for line in kept.read_text().splitlines()]
        while len(history) < preset.train.epochs:
            number = len(history) + 1
            score = self.score(preset, number) * (1 - preset.model.dropout)
            history.append({"epoch": number, "ndcg@10": score, "hr@10": 2 * score})
            kept.write_text("".join(json.dumps(line) + "\n" for line in history))
            self.epochs += 1
            time.sleep(0.001)  # so that each takes some time
            ends = stop(history[-1])
            if self.epochs == self.killed_after:
                raise SystemExit(143)
            if ends:
                break
        best = max(history, key=lambda line: line["ndcg@10"])
        return TrainResult(None, history, best["epoch"], best["ndcg@10"])


def search(folder, start=START, texts=TEXTS, **options):
    return Search(folder, start, Space.parse(texts, start), **options)


def test_the_start_is_tried_first_and_the_best_becomes_a_preset_file(tmp_path):
    searched = search(tmp_path)
    searched.run(Trainer(), trials=3)
    tried = searched.tried
    assert [one.state for one in tried] == ["complete"] * 3
    assert searched.is_start(tried[0])
    assert all(one.epochs == 2 and one.seconds > 0 for one in tried)
    assert not list((tmp_path / "trials").iterdir())
    best = write_outcome(searched, tmp_path / "shop.yaml", {"split": "s"})
    assert best.ndcg == max(one.ndcg for one in tried)
    assert read_preset(tmp_path / "shop.yaml") == searched.preset_of(best)
    assert "of_the_start" in (tmp_path / "shop.yaml").read_text()
    assert len((tmp_path / "shop.trials.jsonl").read_text().splitlines()) == 3
    assert (tmp_path / "shop.svg").read_text().startswith("<svg")
    assert json.loads((tmp_path / "shop.trials.jsonl").read_text().splitlines()[0])["number"] == 0


def test_a_killed_search_goes_on_in_the_middle_of_its_trial(tmp_path):
    whole = search(tmp_path / "whole")
    whole.run(Trainer(), trials=2)
    killed = Trainer(killed_after=3)
    with pytest.raises(SystemExit):
        search(tmp_path / "cut").run(killed, trials=2)
    again = search(tmp_path / "cut")
    assert [one.state for one in again.tried] == ["complete", "running"]
    assert again.tried[1].epochs == 1
    resumed = Trainer()
    again.run(resumed, trials=2)
    assert resumed.asked == killed.asked[1:]
    assert resumed.folders == killed.folders[1:]
    assert [one.state for one in again.tried] == ["complete", "complete"]
    assert [one.ndcg for one in again.tried] == [one.ndcg for one in whole.tried]
    again.run(resumed, trials=2)  # nothing is left to do
    assert len(resumed.asked) == 1


def test_what_is_worse_than_the_median_is_given_up(tmp_path):
    start = START.with_overrides(epochs=6, dropout=0.0)
    searched = search(tmp_path, start, {"model.dropout": "0.0,0.1,0.2,0.3,0.5"})
    searched.queue([{"model.dropout": d} for d in (0.0, 0.1, 0.2, 0.3, 0.5)])
    searched.run(Trainer(), trials=5)
    *others, worst = searched.tried
    assert [one.state for one in others] == ["complete"] * 4
    assert (worst.state, worst.epochs) == ("pruned", 3)
    assert searched.best.settings["model.dropout"] == 0.0
    kept = search(tmp_path / "all", start, {"model.dropout": "0.0,0.1,0.2,0.3,0.5"}, prune=False)
    kept.queue([{"model.dropout": d} for d in (0.0, 0.1, 0.2, 0.3, 0.5)])
    kept.run(Trainer(), trials=5)
    assert {one.state for one in kept.tried} == {"complete"}


def test_minutes_end_a_search_after_an_epoch_and_stay_spent(tmp_path):
    searched = search(tmp_path)
    searched.run(Trainer(), minutes=1e-6)
    [tried] = searched.tried
    assert (tried.state, tried.epochs) == ("complete", 1)
    trainer = Trainer()
    search(tmp_path).run(trainer, minutes=1e-6)
    assert not trainer.asked


def test_settings_that_do_not_fit_together_fail_alone(tmp_path):
    start = START.with_overrides(dim=64, heads=2)
    searched = search(tmp_path, start, {"model.heads": "2,8", "model.dim": "32,64"})
    together = {"model.dim": 32, "model.heads": 8}
    searched._study.enqueue_trial(searched.space.values_of(start))
    searched._study.enqueue_trial(together)
    searched.run(Trainer(), trials=2)
    start_tried, failed = searched.tried
    assert (failed.state, failed.settings) == ("fail", together)
    assert "heads=8 of dim=32 are 4 wide" in failed.error
    assert searched.best == start_tried


def test_two_searches_in_one_folder_are_refused(tmp_path):
    first = search(tmp_path)
    with first._alone(), pytest.raises(DataError, match="another search is at work"):
        search(tmp_path).run(Trainer(), trials=1)
    search(tmp_path, worker=1).run(Trainer(), trials=1)


def test_nothing_completed_is_said(tmp_path):
    with pytest.raises(DataError, match="no trial was completed"):
        write_outcome(search(tmp_path), tmp_path / "shop.yaml", {})


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("model.dims", "1,2", r"'model\.dims' is unknown; did you mean 'model\.dim'"),
        ("gates.x", "1,2", "'gates.x' is unknown"),
        ("model.dropout", "0.1..1.5", r"model\.dropout=0\.1\.\.1\.5: model\.dropout: "),
        ("model.dropout", "0.5..0.1", "a range is low..high"),
        ("model.time_bias", "false..true", "a range is low..high"),
        ("model.blocks", "1..2..3", "a range is low..high"),
        ("model.blocks", "1.5,2", r"model\.blocks"),
        ("model.blocks", "[1", "is no value"),
    ],
)
def test_a_bad_space_is_one_line_that_names_the_setting(key, text, message):
    with pytest.raises(SettingsError, match=message) as caught:
        Space.parse({key: text}, START)
    assert "\n" not in str(caught.value)


def test_a_space_holds_the_start_and_leaves_out_what_is_fixed():
    space = Space.parse({"model.blocks": "3,4", "train.learning_rate": "0.1..0.9"}, START)
    assert "choices=(3, 4, 2)" in space.describe()["model.blocks"]
    assert space.distributions["train.learning_rate"].low == START.train.learning_rate
    assert list(space.without(["model.blocks"]).distributions) == ["train.learning_rate"]
