"""Score the model, its baselines and the champion on the same users of the test fold, once."""

from kfp.dsl import Dataset, Input, Metrics, Model, Output, component

from components.support.image import IMAGE


@component(base_image=IMAGE, install_kfp_package=False)
def evaluate(
    config: str,
    home: str,
    run_dir: str,
    sequences: Input[Dataset],
    interactions: Input[Dataset],
    items: Input[Dataset],
    impressions: Input[Dataset],
    model: Input[Model],
    evaluation: Output[Dataset],
    metrics: Output[Metrics],
):
    """Write every figure with its interval, a row per user, and what the logs say of the model."""
    from dataclasses import replace
    from functools import partial
    from pathlib import Path

    import pyarrow.parquet as pq

    from components.support import run_trend
    from components.support.champion import load_champion, recipe_of
    from components.support.fair_comparison import fair_comparison
    from components.support.metadata import storable
    from components.support.outcome_metrics import feature_skew
    from components.support.recipe import Recipe
    from components.support.sequence_extras import SequenceExtras
    from components.support.settings import RunConfig
    from components.support.stage import stage
    from components.support.train_recipe import RecipeTraining
    from sasrec.data.dataset import SequenceDataset
    from sasrec.data.events import events_of, timed_items
    from sasrec.data.roles import Roles
    from sasrec.evaluation.catalogue import Catalogue
    from sasrec.evaluation.evaluate import evaluate as evaluate_scorers
    from sasrec.evaluation.result import CHAMPION, MODEL
    from sasrec.evaluation.serving_cost import serving_cost
    from sasrec.model.recommender import Recommender
    from sasrec.off_policy.impressions import learn_from_impressions
    from sasrec.off_policy.policy import GREEDY
    from sasrec.scoring.baselines import BigramMarkov, ItemKNN, Popularity, RecentPopularity
    from sasrec.scoring.scorer import Scorer
    from sasrec.scoring.trend import Trend
    from serving.engine.routing import ranking_policy
    from serving.release.parity import serving_parity
    from serving.settings import load_settings

    with stage("evaluate", run_dir) as current:
        run = RunConfig.parse(config)
        dataset = SequenceDataset.load(Path(sequences.path))
        train, vocabulary = dataset.train, dataset.vocabulary
        alone = Recommender.load(Path(model.path))
        trend = Trend.load(Path(model.path))
        events = partial(timed_items, Path(interactions.path), vocabulary)
        with_trend = run_trend.AsEvaluated(dataset, events)
        candidate = with_trend(alone, trend)
        champion = load_champion(Path(home))
        training = RecipeTraining(
            Path(home),
            current.run_dir,
            dataset,
            SequenceExtras.load(run, Path(sequences.path)),
        )
        recipe = recipe_of(run, champion)

        def made(asked: Recipe) -> Scorer:
            alike = (asked.model, asked.train) == (recipe.model, recipe.train)
            trained = alone if alike else training.train(asked)
            return with_trend(trained, run_trend.fit(trained, dataset, asked.trend)[0])

        comparison = fair_comparison(
            champion,
            candidate,
            recipe,
            dataset,
            made,
            minimum_users=run.refit.min_comparison_users,
            with_trend=with_trend,
        )
        result = evaluate_scorers(
            candidate,
            dataset.test,
            Catalogue.build(vocabulary, train, pq.read_table(items.path)),
            split=dataset.description,
            baselines=[
                Popularity(train, len(vocabulary)),
                # It may know what the model's counts know: all until the test cut.
                RecentPopularity(train, len(vocabulary))
                if dataset.test.histories.asked_at is None
                else RecentPopularity.as_of(
                    int(dataset.test.histories.asked_at.max()), events(), train, len(vocabulary)
                ),
                BigramMarkov(train, len(vocabulary)),
                ItemKNN(train, len(vocabulary)),
            ],
            champion=comparison.scorer,
            champion_users=comparison.users,
            without_trend=None if candidate is alone else alone,
        )
        training.forget()
        settings = load_settings().model_copy(update={"home": Path(home)})
        shown = pq.read_table(impressions.path)
        feedback = learn_from_impressions(
            candidate,
            vocabulary,
            shown,
            events_of(Path(interactions.path), shown["user_id"]),
            split=dataset.description,
            policies=[GREEDY, ranking_policy(settings)],
            candidates=settings.candidates,
        )
        further = {
            CHAMPION: comparison.finding,
            "cost": serving_cost(alone, dataset.test.histories),
            "serving_parity": serving_parity(
                Path(model.path),
                settings,
                dataset.test.user_ids[:200],
                roles=Roles.parse(run.events.roles),
                until=run.data.as_of,
                repeats=dataset.test.repeats,
            ),
            "feature_skew": feature_skew(current.run_dir),
            "export_parity": {
                "missing": "a run exports nothing; an export is compared when it is written"
            },
        }
        result = replace(result, findings=feedback.findings | further)
        result.save(Path(evaluation.path))
        if feedback.calibration is not None:
            feedback.calibration.save(Path(evaluation.path))
        result.save(current.run_dir / "evaluation")
        shown = {name: result.metrics[MODEL][name] for name in ("ndcg@10", "hr@10", "mrr@10")}
        metrics.metadata.update(storable(shown))
        evaluation.metadata.update(storable({"protocol": str(result.protocol)}))
        current.detail = f"test NDCG@10 {result.metrics[MODEL]['ndcg@10']:.4f}"
