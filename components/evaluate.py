"""Score the model, its baselines and the champion on the same users of the test fold, once."""

from kfp.dsl import Dataset, Input, Metrics, Model, Output, component

from components.image import IMAGE


@component(base_image=IMAGE, install_kfp_package=False)
def evaluate(
    home: str,
    run_dir: str,
    sequences: Input[Dataset],
    items: Input[Dataset],
    model: Input[Model],
    evaluation: Output[Dataset],
    metrics: Output[Metrics],
):
    """Write every figure with its interval, and a row per user for the gates to compare."""
    from pathlib import Path

    import pyarrow.parquet as pq

    from components.champion import load_champion
    from components.stage import stage
    from sasrec.baselines import BigramMarkov, ItemKNN, Popularity, RecentPopularity
    from sasrec.catalogue import Catalogue
    from sasrec.data.dataset import SequenceDataset
    from sasrec.evaluation import MODEL
    from sasrec.evaluation import evaluate as evaluate_scorers
    from sasrec.recommender import Recommender

    with stage("evaluate", run_dir) as current:
        dataset = SequenceDataset.load(Path(sequences.path))
        train, vocabulary = dataset.train, dataset.vocabulary
        result = evaluate_scorers(
            Recommender.load(Path(model.path)),
            dataset.test,
            Catalogue.build(vocabulary, train, pq.read_table(items.path)),
            split=dataset.description,
            baselines=[
                baseline(train, len(vocabulary))
                for baseline in (Popularity, RecentPopularity, BigramMarkov, ItemKNN)
            ],
            champion=load_champion(Path(home), vocabulary),
        )
        result.save(Path(evaluation.path))
        result.save(current.run_dir / "evaluation")
        for name in ("ndcg@10", "hr@10", "mrr@10"):
            metrics.log_metric(name, result.metrics[MODEL][name])
        evaluation.metadata["protocol"] = str(result.protocol)
        current.detail = f"test NDCG@10 {result.metrics[MODEL]['ndcg@10']:.4f}"
