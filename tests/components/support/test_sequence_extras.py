"""What a run's settings put beside the sequences reaches the training, on one node and on many."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.nodes.train_node import read_result, train_in, write_work
from components.support.recipe import Recipe
from components.support.sequence_extras import (
    RunTables,
    SequenceExtras,
    known_items,
    write_extras,
)
from components.support.settings import SettingsError, build_config
from components.support.train_recipe import RecipeTraining
from components.support.training_plan import TrainingPlan
from sasrec.data.cleaning import clean
from sasrec.data.dataset import SequenceDataset
from sasrec.data.frame_histories import histories_before
from sasrec.data.simulated import Storefront
from sasrec.data.splits import global_time
from sasrec.errors import DataError

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
    names = ("interactions", "items", "impressions")
    tables = RunTables(*(folder / f"{name}.parquet" for name in names))
    split = global_time(source.interactions, items=source.items)
    split = replace(split, known_items=known_items(run, split.known_items, tables.items))
    histories = histories_before(source.interactions, split.cutoffs)
    dataset = SequenceDataset.from_histories(split, histories)
    sequences = folder / f"sequences-{run.model.feature_buckets}"
    dataset.save(sequences)
    users, train = dataset.train_users, dataset.train
    write_extras(run, tables, dataset.vocabulary, users, train, sequences)
    return sequences


def test_without_them_nothing_changes(shop):
    run = build_config(overrides=QUICK)
    sequences = extract(shop, run)
    dataset, extras = SequenceDataset.load(sequences), SequenceExtras.load(run, sequences)
    assert extras.features_of(run.model) is None
    assert extras.weigh(dataset.train, run.train) is dataset.train
    assert "new" not in dataset.vocabulary
    weighing = run.train.model_copy(update={"propensity_weights": True})
    with pytest.raises(DataError, match="propensities are missing"):
        extras.weigh(dataset.train, weighing)


def test_features_and_propensities_reach_the_training_on_one_node_and_on_many(shop, tmp_path):
    run = build_config(overrides=ABLE)
    sequences = extract(shop, run)
    dataset, extras = SequenceDataset.load(sequences), SequenceExtras.load(run, sequences)
    weights = extras.weigh(dataset.train, run.train).weights
    weighed = weights[weights != 1]
    assert 0 < len(weighed) < len(weights)
    assert weighed.max() / weighed.min() > 2
    twice = replace(dataset.train, weights=np.full(len(weights), 2, dtype=np.float32))
    np.testing.assert_allclose(extras.weigh(twice, run.train).weights, 2 * weights)

    plan = TrainingPlan(Recipe(run.model, run.train), run.train)
    trained = plan.train(dataset, extras, tmp_path / "one")
    [new] = dataset.vocabulary.encode(["new"])
    features = extras.features_of(run.model)
    assert features.offsets[new + 1] - features.offsets[new] == 1
    assert trained.recommender.model.item_embedding.features is not None

    for _ in range(2):  # a repetition writes the same work again
        write_work(tmp_path / "many", run.model_dump_json(), sequences, trained.recommender)
    train_in(tmp_path / "many")
    warm = replace(plan, champion=trained.recommender).train(dataset, extras, tmp_path / "warm")
    assert read_result(tmp_path / "many").history[0]["loss"] == warm.history[0]["loss"]
    assert warm.history[0]["loss"] < trained.history[0]["loss"]


def test_another_recipe_is_trained_on_the_same_extras_or_not_at_all(shop, tmp_path):
    run = build_config(overrides=ABLE)
    sequences = extract(shop, run)
    dataset, extras = SequenceDataset.load(sequences), SequenceExtras.load(run, sequences)
    (tmp_path / "run").mkdir()
    training = RecipeTraining(tmp_path, tmp_path / "run", dataset, extras)
    plain = build_config(overrides=QUICK)
    assert training.train(Recipe(plain.model, plain.train)).model.item_embedding.features is None
    other = build_config(overrides=[*QUICK, "model.feature_buckets=64"])
    with pytest.raises(DataError, match="feature_buckets is 64, but item features are missing"):
        training.train(Recipe(other.model, other.train))


def test_other_extras_are_another_training(shop):
    able, plain = build_config(overrides=ABLE), build_config(overrides=QUICK)
    digests = {SequenceExtras.load(run, extract(shop, run)).digest for run in (able, plain)}
    assert len(digests) == 2


def test_a_missing_column_is_one_line(shop):
    run = build_config(overrides=[*ABLE, "data.feature_columns=[colour]"])
    with pytest.raises(DataError, match="column 'colour' is missing") as caught:
        extract(shop, run)
    assert "\n" not in str(caught.value)


def test_columns_need_a_table():
    with pytest.raises(SettingsError, match=r"set model\.feature_buckets"):
        build_config(overrides=["data.feature_columns=[category]"])
