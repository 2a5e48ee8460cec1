"""The search for presets is the search of `tune`, over a list of settings."""

import pytest

from benchmarks.search import GRID, START, searched, summary
from sasrec.presets import preset, with_sections
from sasrec.training.loop import TrainResult


@pytest.mark.parametrize("dataset", GRID)
def test_every_setting_is_tried_once_and_a_repeated_command_does_nothing(dataset, tmp_path):
    asked = []

    def train_one(chosen, folder, stop):
        asked.append(chosen)
        epoch = {"epoch": 1, "ndcg@10": len(asked) / 100, "hr@10": 0.5}
        stop(epoch)
        return TrainResult(None, [epoch], 1, epoch["ndcg@10"])

    trials = len(GRID[dataset])
    searched(dataset, tmp_path).run(train_one, trials=trials)
    assert asked == [preset("default", **START | settings) for settings in GRID[dataset]]
    again = searched(dataset, tmp_path)
    again.run(train_one, trials=trials)
    assert len(asked) == trials
    best = summary(again)[0]
    assert best["validation"] == {"ndcg@10": trials / 100, "hr@10": 0.5}
    assert with_sections(best["settings"]).keys() <= again.space.distributions.keys()
