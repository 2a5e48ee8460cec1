import json
from uuid import UUID

import numpy as np
import pandas as pd
import pytest
import torch

import sasrec
from sasrec.data.vocabulary import Vocabulary
from sasrec.errors import DataError
from sasrec.model.config import ModelConfig
from sasrec.model.recommender import Recommender
from sasrec.model.sasrec import SASRec
from tests.sasrec.cyclic_world import ITEMS, STRIDE, VOCABULARY, histories
from tests.sasrec.small_sequences import packed


@pytest.fixture
def recommender():
    torch.manual_seed(0)
    config = ModelConfig(dim=16, max_length=5, position_bias=True)
    return Recommender(SASRec(config, ITEMS), VOCABULARY)


def test_logits_cover_the_catalogue_and_never_padding(recommender):
    logits = recommender.logits(packed([[1, 2], [3]]))
    assert (logits.shape, logits.dtype) == ((2, ITEMS + 1), torch.float32)
    assert (logits[:, 0] == -torch.inf).all()
    assert logits[:, 1:].isfinite().all()


def test_only_the_newest_events_count(recommender):
    long = recommender.logits(packed([[9, 8, 7, 1, 2, 3, 4, 5]]))
    assert torch.equal(long, recommender.logits(packed([[1, 2, 3, 4, 5]])))


def test_a_history_scores_the_same_alone_and_in_company(recommender):
    company = recommender.logits(packed([[1, 2, 3], [], [4, 5]]))
    assert torch.allclose(company[0], recommender.logits(packed([[1, 2, 3]]))[0], atol=1e-6)
    assert torch.allclose(company[2], recommender.logits(packed([[4, 5]]))[0], atol=1e-6)


def test_nothing_is_known_after_an_empty_history(recommender):
    assert not recommender.logits(packed([[]]))[0, 1:].any()


def test_recommend_skips_unknown_and_seen_items(recommender):
    found = recommender.recommend(["item-1", "never heard of", "item-2"], k=5)
    scores = recommender.logits(packed([[1, 2]]))[0]
    scores[[1, 2]] = -torch.inf
    assert [VOCABULARY.encode([item])[0] for item, _ in found] == scores.topk(5).indices.tolist()
    assert [score for _, score in found] == pytest.approx(scores.topk(5).values.tolist())
    again = recommender.recommend(["item-1", "item-2"], k=ITEMS, filter_seen=False)
    assert len(again) == ITEMS


@pytest.mark.parametrize(
    ("asked", "message"),
    [("nobody", "user 'nobody' is unknown"), (["x"], "none of the 1 items"), ([], "none of the 0")],
)
def test_nothing_to_recommend_from_is_an_error(recommender, asked, message):
    with pytest.raises(DataError, match=message):
        recommender.recommend(asked)


def test_save_and_load_give_the_same_scores_bit_for_bit(recommender, tmp_path):
    recommender.save(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {
        "model.safetensors",
        "config.json",
        "vocabulary.json",
    }
    loaded = Recommender.load(tmp_path)
    some = packed([[1, 2, 3], [4]])
    assert torch.equal(loaded.logits(some), recommender.logits(some))


def test_a_vocabulary_of_another_model_is_refused(recommender, tmp_path):
    recommender.save(tmp_path)
    Vocabulary(["a", "b"]).save(tmp_path / "vocabulary.json")
    with pytest.raises(DataError, match=r"vocabulary\.json: 2 items, but the weights have 30"):
        Recommender.load(tmp_path)


def test_a_vocabulary_of_another_model_of_this_size_is_refused(recommender, tmp_path):
    recommender.save(tmp_path)
    Vocabulary(reversed(VOCABULARY.item_ids)).save(tmp_path / "vocabulary.json")
    with pytest.raises(DataError, match=r"vocabulary\.json: is not the one that was saved with"):
        Recommender.load(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(DataError, match=r"config\.json: not a JSON object"):
        Recommender.load(tmp_path)


@pytest.mark.parametrize("k", [0, -1, 2.5, True, "3"])
def test_a_k_that_asks_for_nothing_is_refused(recommender, k):
    with pytest.raises(DataError, match=r"k is .*; ask for a whole number of items from 1 on"):
        recommender.recommend(["item-1"], k=k)
    assert len(recommender.recommend(["item-1"], k=np.int64(3))) == 3


def test_ids_of_a_frame_come_back_as_they_are(tmp_path):
    """Whole numbers as numpy and Python have them, and UUIDs."""
    times, once = frame(), SMALL | {"epochs": 1}
    number = times["item_id"].str.split("-").str[1].astype(int)
    users = times["user_id"].str[1:].astype(int)
    by_number = sasrec.fit(times.assign(item_id=number, user_id=users), **once)
    best = by_number.recommend(3)
    assert {type(item) for item, _ in best} == {int}
    assert best == by_number.recommend(np.int64(3)) == by_number.recommend("3")
    assert by_number.recommend([best[0][0], 2]) == by_number.recommend([str(best[0][0]), 2.0])
    with pytest.raises(DataError, match="True is no id"):
        by_number.recommend(True)
    by_number.save(tmp_path)
    assert Recommender.load(tmp_path).recommend([1, 2]) == by_number.recommend([1, 2])
    uuids = {n: UUID(int=int(n)) for n in number.unique()}
    by_uuid = sasrec.fit(times.assign(item_id=number.map(uuids)), **once)
    assert isinstance(by_uuid.recommend([uuids[1]])[0][0], UUID)


def test_a_configuration_of_another_model_is_refused(recommender, tmp_path):
    recommender.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"blocks": 3}))
    with pytest.raises(DataError, match=r"tensor 'blocks\.2\..*' is None"):
        Recommender.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | {"depth": 3}))
    with pytest.raises(DataError, match="field 'depth'"):
        Recommender.load(tmp_path)


def test_a_missing_or_damaged_file_is_named(recommender, tmp_path):
    recommender.save(tmp_path)
    weights = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(DataError, match=r"model\.safetensors: not a whole safetensors file"):
        Recommender.load(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"model\.safetensors: missing"):
        Recommender.load(tmp_path)


def frame(users=60):
    packed_histories = histories(users, seed=0)
    return pd.DataFrame(
        {
            "user_id": np.repeat([f"u{i}" for i in range(users)], packed_histories.lengths),
            "item_id": VOCABULARY.decode(packed_histories.items),
            "timestamp": packed_histories.timestamps // 1_000_000 + 1_700_000_000,
        }
    )


SMALL = {"dim": 16, "max_length": 12, "dropout": 0.0, "learning_rate": 1e-2, "epochs": 12}


def test_fit_on_a_frame_then_recommend_save_and_load(tmp_path):
    recommender = sasrec.fit(frame(), **SMALL)
    best, _ = recommender.recommend(["item-1", "item-4", "item-7"], k=1)[0]
    assert best == "item-10"
    newest = frame().query("user_id == 'u3'")["item_id"].iloc[-1]
    expected = (int(newest.split("-")[1]) - 1 + STRIDE) % ITEMS + 1
    assert recommender.recommend("u3", k=1)[0][0] == f"item-{expected}"
    recommender.save(tmp_path)
    assert Recommender.load(tmp_path).recommend(["item-1"], k=1)[0][0] == "item-4"


def test_a_frame_may_have_an_order_in_place_of_times():
    times, once = frame(), SMALL | {"epochs": 1, "preset": "default"}
    order = times.assign(
        timestamp=np.arange(len(times)) - 7, price=[1.5, *["free"] * (len(times) - 1)]
    )
    assert sasrec.fit(order, **once).recommend("u3") == sasrec.fit(times, **once).recommend("u3")
    with pytest.raises(DataError, match="'timestamp' at row 0 looks like a time before 1970"):
        sasrec.fit(order, time_bias=True, **once)


def test_the_frame_chooses_the_preset_and_says_why(capsys):
    times = frame(users=20)
    model = sasrec.fit(times, dim=16, epochs=1).model.config
    assert (model.dim, model.dropout, model.time_bias) == (16, 0.5, True)
    said = capsys.readouterr().err
    assert "preset auto: sparse" in said
    assert "given by hand: model.dim, train.epochs" in said
    order = times.assign(timestamp=range(len(times)))
    assert not sasrec.fit(order, dim=16, epochs=1).model.config.time_bias


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="item_id"), "column 'item_id' is missing"),
        (lambda f: f.iloc[:0], "there are no rows"),
        (
            lambda f: f.assign(item_id=f["item_id"].where(f.index != 4)),
            "'item_id' is null at row 4",
        ),
        (lambda f: f.drop_duplicates("user_id"), "no user has two events"),
        (lambda f: f.groupby("user_id").head(2), "no user has 3 events"),
    ],
)
def test_a_bad_frame_is_named_in_one_line(change, message):
    with pytest.raises(DataError, match=message) as caught:
        sasrec.fit(change(frame()), **SMALL)
    assert "\n" not in str(caught.value)
