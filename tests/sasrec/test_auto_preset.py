"""What `--preset auto` chooses for which data, and that it says why."""

from dataclasses import replace

import numpy as np
import pytest

from sasrec.presets import AUTO, PRESETS, preset
from sasrec.presets.auto import Choice, DataFacts, choose

BEAUTY = DataFacts(20825, 158689, 11775, median=6, covered=18, timed=True)
MOVIES = DataFacts(6040, 987531, 3416, median=94, covered=554, timed=False)


def test_short_histories_take_sparse_as_it_is():
    choice = choose(BEAUTY)
    assert (choice.name, choice.settings) == ("sparse", {})
    assert choice.preset == PRESETS["sparse"]
    assert choice.lines()[0] == "preset auto: sparse"
    assert "at most 6 events to learn from" in choice.why[0]


def test_long_histories_take_default_as_it_is():
    choice = choose(MOVIES)
    assert (choice.name, choice.preset) == ("default", PRESETS["default"])


def test_long_histories_but_few_events_take_more_dropout():
    choice = choose(replace(MOVIES, events=66_000))
    assert (choice.name, choice.settings) == ("default", {"model.dropout": 0.3})


@pytest.mark.parametrize(
    ("changed", "settings"),
    [
        ({"covered": 70}, {"model.max_length": 100}),
        ({"covered": 900}, {"model.max_length": 200}),
        ({"timed": False}, {"model.time_bias": False}),
        ({"items": 10**6}, {"train.loss": "sampled_softmax", "train.batch_tokens": 16384}),
    ],
)
def test_each_rule_changes_its_setting_and_says_so(changed, settings):
    choice = choose(replace(BEAUTY, **changed))
    assert choice.settings == settings
    assert len(choice.why) == 2
    assert choice.preset == PRESETS["sparse"].with_settings(settings)


def test_what_was_given_by_hand_stays():
    choice = choose(replace(BEAUTY, covered=70, timed=False), kept=["model.max_length"])
    assert choice.settings == {"model.time_bias": False}
    assert choice.why[-1] == "given by hand: model.max_length"


def test_a_choice_survives_json():
    choice = choose(replace(BEAUTY, covered=70))
    assert Choice.of(choice.to_dict()) == choice


def test_facts_are_those_of_the_histories():
    facts = DataFacts.of(np.array([1, 2, 3, 4, 100]), 7, timed=True, repeats=0.5)
    assert (facts.users, facts.events, facts.items, facts.median) == (5, 110, 7, 3)
    assert facts.covered > 4
    assert choose(DataFacts.of(np.array([], int), 0, timed=True)).name == "sparse"


def test_auto_needs_data():
    with pytest.raises(ValueError, match="needs data"):
        preset(AUTO)
