"""A training begins from the champion only where that says nothing of what judges it."""

import pytest
import torch

from components.support.settings import build_config
from components.support.warm_start import choose_warm_start
from sasrec.data.vocabulary import Vocabulary
from sasrec.model.recommender import Recommender
from sasrec.model.sasrec import SASRec
from serving.registry import open_store

EARLIER, CUT, LATER = (f"2026-01-0{day}T00:00:00+00:00" for day in (1, 2, 3))
SMALL = ("model.dim=16", "model.heads=2", "model.blocks=1")


def settings(*more):
    return build_config(overrides=[*SMALL, "train.warm_start=champion", *more])


def register(home, seed, **metadata):
    torch.manual_seed(seed)
    model = SASRec(settings().model, 3)
    Recommender(model, Vocabulary(["a", "b", "c"])).save(home / f"model-{seed}")
    return open_store(home).register(home / f"model-{seed}", metadata=metadata)


@pytest.fixture
def home(tmp_path):
    return tmp_path


def choose(home, *more, t1=CUT):
    return choose_warm_start(settings(*more), home, {"t1": t1})


def test_nobody_asked_and_nobody_serves(home):
    assert choose_warm_start(build_config(), home, {"t1": CUT}).detail == ""
    found = choose(home)
    assert (found.version, found.detail) == (None, "from scratch: there is no champion")


def test_an_evaluated_champion_is_taken_if_its_cut_was_no_later(home):
    version = register(home, 0, split={"t1": EARLIER}, as_of=LATER, evaluated_as=None)
    open_store(home).promote(version)
    found = choose(home)
    assert found.version == version
    assert Recommender.load(found.directory).vocabulary.item_ids == ["a", "b", "c"]
    assert choose(home, "model.dropout=0.5").version == version


def test_a_champion_that_has_seen_what_is_evaluated_is_not(home):
    version = register(home, 0, split={"t1": LATER})
    open_store(home).promote(version)
    found = choose(home)
    assert found.version is None
    assert f"{version} has learned from events after {CUT}" in found.detail
    assert choose(home, t1=None).version is None


def test_a_refit_is_not_taken_but_the_model_that_vouches_for_it_is(home):
    evaluated = register(home, 0, split={"t1": EARLIER})
    refit = register(home, 1, split={"t1": EARLIER}, as_of=LATER, evaluated_as=evaluated)
    open_store(home).promote(refit)
    assert choose(home).version == evaluated
    gone = register(home, 2, split={"t1": EARLIER}, as_of=LATER, evaluated_as="not registered")
    open_store(home).promote(gone)
    assert choose(home).version is None


def test_another_architecture_starts_from_scratch_and_says_so(home):
    version = register(home, 0, split={"t1": EARLIER})
    open_store(home).promote(version)
    found = choose(home, "model.dim=32")
    assert found.version is None
    assert "field 'dim' is 16 in the earlier model and 32 here" in found.detail
