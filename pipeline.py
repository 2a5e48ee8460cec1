"""The recommender's pipeline: its stages, and what each hands to the next.

interactions ─ ingest ─ publish_features ─ extract_sequences ─ train ─ evaluate ─ gate
                                                                                   │ promote
                                                                deploy ─ register ─ refit
"""

from kfp import dsl

from components.command_line import command_line, run_to_exit
from components.deploy import deploy
from components.evaluate import evaluate
from components.extract_sequences import extract_sequences
from components.gate import gate
from components.ingest import ingest
from components.publish_features import publish_features
from components.refit import refit
from components.register import register
from components.start_run import start_run
from components.support.run_identity import MOMENT, RUN_ID
from components.support.settings import build_config
from components.train import train

CLUSTER_HOME = "/mnt/sasrec"
RUN_DIR = f"{CLUSTER_HOME}/runs/{MOMENT}-{RUN_ID}"


@dsl.pipeline(
    name="sasrec",
    description="From interactions to a served SASRec recommender, through an offline gate.",
)
def sasrec_pipeline(
    config: str = build_config().model_dump_json(),
    home: str = CLUSTER_HOME,
    run_dir: str = RUN_DIR,
):
    """`config` is a RunConfig as JSON; `home` holds feature store, models and event log."""
    run = start_run(
        config=config,
        home=home,
        run_dir=run_dir,
        scheduled_at=dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER,
        run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
    ).outputs
    config, run_dir = run["config"], run["run_dir"]
    data = ingest(config=config, home=home, run_dir=run_dir).outputs
    with dsl.If(data["Output"] == "new", name="something-new"):
        features = publish_features(
            home=home,
            run_dir=run_dir,
            interactions=data["interactions"],
            items=data["items"],
            impressions=data["impressions"],
            split=data["split"],
        )
        extracted = extract_sequences(
            config=config,
            home=home,
            run_dir=run_dir,
            features=features.output,
            interactions=data["interactions"],
            items=data["items"],
            impressions=data["impressions"],
            split=data["split"],
        ).outputs
        sequences, current = extracted["sequences"], extracted["current"]
        config = extracted["Output"]  # the same, or with the preset that the data chose
        model = train(config=config, home=home, run_dir=run_dir, sequences=sequences).output
        evaluation = evaluate(
            config=config,
            home=home,
            run_dir=run_dir,
            sequences=sequences,
            interactions=data["interactions"],
            items=data["items"],
            impressions=data["impressions"],
            model=model,
        ).outputs["evaluation"]
        verdict = gate(config=config, run_dir=run_dir, evaluation=evaluation)
        with dsl.If(verdict.outputs["Output"] == "promote", name="promoted"):
            refitted = refit(
                config=config,
                home=home,
                run_dir=run_dir,
                sequences=sequences,
                current=current,
                model=model,
                evaluation=evaluation,
            )
            with dsl.If(refitted.outputs["Output"] == "promote", name="fit-to-serve"):
                version = register(
                    home=home,
                    run_dir=run_dir,
                    interactions=data["interactions"],
                    items=data["items"],
                    sequences=sequences,
                    current=current,
                    shipped=refitted.outputs["shipped"],
                    shipment=refitted.outputs["shipment"],
                    evaluation=evaluation,
                ).outputs["Output"]
                deploy(home=home, run_dir=run_dir, version=version, sequences=sequences)


@dsl.pipeline(name="sasrec-sequences", description="What `tune` searches on.")
def sequences_pipeline(
    config: str = build_config().model_dump_json(),
    home: str = CLUSTER_HOME,
    run_dir: str = RUN_DIR,
):
    """The run up to its sequences, whether or not there is something new."""
    run = start_run(
        config=config,
        home=home,
        run_dir=run_dir,
        scheduled_at=dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER,
        run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
    ).outputs
    config, run_dir = run["config"], run["run_dir"]
    data = ingest(config=config, home=home, run_dir=run_dir).outputs
    tables = {name: data[name] for name in ("interactions", "items", "impressions", "split")}
    features = publish_features(home=home, run_dir=run_dir, **tables)
    extract_sequences(config=config, home=home, run_dir=run_dir, features=features.output, **tables)


app = command_line(sasrec_pipeline, sequences_pipeline)


def main() -> None:
    """The command line; `--help` teaches it."""
    run_to_exit(app)


if __name__ == "__main__":
    main()
