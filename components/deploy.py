"""Prove the version on a real server, then make it the champion."""

from kfp.dsl import Artifact, Dataset, Input, Output, component

from components.support.image import IMAGE


@component(base_image=IMAGE, install_kfp_package=False)
def deploy(
    home: str,
    run_dir: str,
    version: str,
    sequences: Input[Dataset],
    deployment: Output[Artifact],
):
    """Start BentoML on the candidate, ask it over HTTP, and only then move the alias.

    Where the platform settings name serving's namespace, its pods are moved to this run's image.
    """
    import json
    from pathlib import Path

    from components.support.metadata import storable
    from components.support.stage import stage
    from sasrec.data.dataset import SequenceDataset
    from serving.registry import open_registry
    from serving.release.deployment import deploy as deploy_version
    from serving.release.kubernetes import connect
    from serving.release.rollout import RolloutSettings, roll_out

    with stage("deploy", run_dir) as current:
        dataset = SequenceDataset.load(Path(sequences.path))
        [recent_items], _ = dataset.examples(count=1)
        report, aliases = deploy_version(
            Path(home),
            version,
            known_user=dataset.test.user_ids[0],
            recent_items=recent_items,
            why=f"promoted by run {current.run_dir.name}",
            log=current.run_dir / "server.log",
        )
        rollout = RolloutSettings()
        if rollout.namespace:
            roll_out(rollout, open_registry(Path(home)), aliases, connect())
        text = json.dumps({**report.to_json(), "aliases": aliases.model_dump()}, indent=2)
        Path(deployment.path).write_text(text)
        (current.run_dir / "deployment.json").write_text(text)
        deployment.metadata.update(storable({"version": version}))
        current.detail = f"champion {version}, ready in {report.seconds_to_ready:.1f} s"
