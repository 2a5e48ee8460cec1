"""What a run's settings put beside the sequences reaches the training, on one node and on many."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.nodes.train_node import read_result, train_in, write_work
from components.support.fingerprint import training_key
from components.support.sequence_extras import known_items, write_item_features, write_propensities
from components.support.settings import SettingsError, build_config
from components.support.training_work import TrainingWork
from sasrec.data.cleaning import clean
from sasrec.data.dataset import SequenceDataset
from sasrec.data.frame_histories import histories_before
from sasrec.data.schema import DataError
from sasrec.data.simulated import Storefront
from sasrec.data.splits import global_time

QUICK = ("model.dim=16", "model.heads=2", "model.blocks=1", "model.max_length=20", "train.epochs=1")
ABLE = (*QUICK, "model.feature_buckets=32", "train.propensity_weights=true")


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Tables of a small shop, one item of which is so new that no split knows it."""
    source, _ = clean(Storefront(seed=1, users=80, days=20).source())
    folder = tmp_path_factory.mktemp("shop")
    never_met = pa.table({"item_id": ["new"], "category": ["Coffee"]})
    items = pa.concat_tables([source.items, never_met], promote_options="default")
    pq.write_table(items, folder / "items.parquet")
    pq.write_table(source.interactions, folder / "interactions.parquet")
    pq.write_table(source.impressions, folder / "impressions.parquet")
    return source, folder


def extract(shop, run):
    """As `extract_sequences` does, without a feature store; the folder of the sequences."""
    source, folder = shop
    split = global_time(source.interactions, items=source.items)
    known = known_items(run, split.known_items, folder / "items.parquet")
    split.known_items[:] = known
    histories = histories_before(source.interactions, split.cutoffs)
    dataset = SequenceDataset.from_histories(split, histories)
    sequences = folder / f"sequences-{len(known)}"
    dataset.save(sequences)
    write_item_features(run, dataset.vocabulary, folder / "items.parquet", sequences)
    tables = (folder / "interactions.parquet", folder / "impressions.parquet")
    write_propensities(run, dataset, *tables, sequences)
    return sequences


def test_without_them_nothing_changes(shop):
    sequences = extract(shop, build_config(overrides=QUICK))
    work = TrainingWork.load(build_config(overrides=QUICK), sequences)
    assert work.item_features is None
    assert work.weights is None
    assert "new" not in work.dataset.vocabulary


def test_features_and_propensities_reach_the_training_on_one_node_and_on_many(shop, tmp_path):
    run = build_config(overrides=ABLE)
    sequences = extract(shop, run)
    work = TrainingWork.load(run, sequences)
    assert "new" in work.dataset.vocabulary
    assert work.weights.shape == work.dataset.train.items.shape
    weighed = work.weights[work.weights != 1]
    assert 0 < len(weighed) < len(work.weights)
    assert weighed.max() / weighed.min() > 2
    trained = work.train(tmp_path / "one", warm_start=None)
    matrix = trained.recommender.model.item_matrix()
    coffee = work.dataset.vocabulary.encode(["new"])
    assert matrix[coffee].norm() > 0

    trained.recommender.save(tmp_path / "champion")
    for _ in range(2):  # a repetition writes the same work again
        write_work(tmp_path / "many", run.model_dump_json(), sequences, tmp_path / "champion")
    train_in(tmp_path / "many")
    warm = work.train(tmp_path / "warm", warm_start=tmp_path / "champion")
    assert read_result(tmp_path / "many").history[0]["loss"] == warm.history[0]["loss"]
    assert warm.history[0]["loss"] < trained.history[0]["loss"]


def test_the_key_of_a_training_knows_its_inputs():
    run = build_config(overrides=QUICK)
    keys = [
        training_key(run, "split"),
        training_key(run, "split", "inputs", None),
        training_key(run, "split", "inputs", "champion"),
        training_key(run, "split", "other inputs", "champion"),
    ]
    assert len(set(keys)) == 4


def test_a_missing_column_is_one_line(shop):
    run = build_config(overrides=[*ABLE, "data.feature_columns=[colour]"])
    with pytest.raises(DataError, match="column 'colour' is missing") as caught:
        extract(shop, run)
    assert "\n" not in str(caught.value)


def test_columns_need_a_table():
    with pytest.raises(SettingsError, match=r"set model\.feature_buckets"):
        build_config(overrides=["data.feature_columns=[category]"])
