"""A training begins from the champion only where that says nothing of what judges it."""

import pytest
import torch

from components.support.settings import build_config
from components.support.warm_start import choose_warm_start
from sasrec.data.vocabulary import Vocabulary
from sasrec.model.recommender import Recommender
from sasrec.model.sasrec import SASRec
from serving.registry import open_registry

EARLIER, CUT, LATER = (f"2026-01-0{day}T00:00:00+00:00" for day in (1, 2, 3))
SMALL = ("model.dim=16", "model.heads=2", "model.blocks=1")


def settings(*more):
    return build_config(overrides=[*SMALL, "train.warm_start=champion", *more])


@pytest.fixture
def site(tmp_path):
    """A home, and a champion by what its manifest says."""

    class Site:
        home = tmp_path / "home"

        def promote(self, **metadata):
            torch.manual_seed(0)
            model = SASRec(settings().model, 3)
            Recommender(model, Vocabulary(["a", "b", "c"])).save(tmp_path / "model")
            store = open_registry(self.home)
            version = store.register(tmp_path / "model", metadata=metadata)
            store.promote(version)
            return version

        def choose(self, *more, t1=CUT):
            split = {"kind": "global-time" if t1 else "leave-one-out", "t1": t1}
            champion, said = choose_warm_start(settings(*more), self.home, split)
            return champion and champion.version, said

    return Site()


def test_nobody_asked_or_nobody_serves(site):
    assert choose_warm_start(build_config(), site.home, {"t1": CUT}) == (None, "")
    assert site.choose() == (None, "from scratch: there is no champion")


def test_a_champion_that_has_seen_nothing_of_this_run_s_evaluation_is_taken(site):
    version = site.promote(split={"t1": EARLIER}, seen_until=EARLIER)
    assert site.choose() == (version, f"from the weights of {version}")
    assert site.choose("model.dropout=0.5")[0] == version


def test_a_refit_that_has_seen_it_is_not(site):
    version = site.promote(split={"t1": EARLIER}, seen_until=LATER)
    taken, said = site.choose()
    assert taken is None
    assert f"{version} has learned from events after {CUT}" in said
    assert site.choose(t1=None)[0] is None


def test_another_architecture_starts_from_scratch_and_says_so(site):
    site.promote(split={"t1": EARLIER}, seen_until=EARLIER)
    taken, said = site.choose("model.dim=32")
    assert taken is None
    assert said == "from scratch: model field 'dim' is 16 in the earlier model and 32 here"
