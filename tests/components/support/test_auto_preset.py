"""`--preset auto` in a run: settled once the sequences are there."""

import json

import pytest

from components.support.auto_preset import chosen_for, settle
from components.support.settings import RunConfig, build_config
from sasrec.data.dataset import SequenceDataset
from sasrec.presets import PRESETS
from tests.sasrec.cyclic_world import VOCABULARY, world


@pytest.fixture
def dataset():
    train, validation = world()
    users = [f"u{row}" for row in range(len(train))]
    description = {"sha256": "s", "repeats": {"targets": 0.2, "allowed": False}}
    return SequenceDataset(description, VOCABULARY, users, train, validation, validation)


def in_run(folder, clock="real"):
    (folder / "data.json").write_text(json.dumps({"clock": clock}))
    return folder


def test_the_data_choose_and_what_was_given_stays(dataset, tmp_path):
    run = RunConfig.parse(build_config("auto", ["train.epochs=3"]).model_dump_json())
    assert run.auto.enabled
    settled, words = settle(run, dataset, in_run(tmp_path))
    assert settled.model == PRESETS["sparse"].model
    assert settled.train == PRESETS["sparse"].train.model_copy(update={"epochs": 3})
    assert words == "preset auto: sparse"
    assert RunConfig.parse((tmp_path / "config.json").read_text()) == settled
    choice = chosen_for(tmp_path)
    assert (choice.name, choice.facts.repeats) == ("sparse", 0.2)
    assert choice.why[-1] == "given by hand: train.epochs"


def test_an_order_without_times_has_no_bias_by_time(dataset, tmp_path):
    settled, words = settle(build_config("auto"), dataset, in_run(tmp_path, "row-order"))
    assert not settled.model.time_bias
    assert words == "preset auto: sparse with model.time_bias=False"


def test_where_a_person_chose_nothing_changes(dataset, tmp_path):
    run = build_config("large")
    assert settle(run, dataset, in_run(tmp_path)) == (run, "")
    assert chosen_for(tmp_path) is None
