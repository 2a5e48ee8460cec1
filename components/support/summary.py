"""`summary.json`: what a run was, what it found, and what it cost."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from components.support.auto_preset import chosen_for
from components.support.fingerprint import code_version
from components.support.outcome_metrics import REFIT
from components.support.settings import RunConfig
from components.support.stage import read_stages
from sasrec.evaluation.result import MODEL, Evaluation

LIBRARIES = ("sasrec-pipeline", "torch", "triton", "kfp", "feast", "bentoml")


def write_summary(config: RunConfig, evaluation: Evaluation, run_dir: Path) -> dict[str, Any]:
    """Gather what the stages left in `run_dir` and write it to `<run_dir>/summary.json`."""
    verdict = json.loads((run_dir / "verdict.json").read_text())
    deployment = run_dir / "deployment.json"
    served = json.loads(deployment.read_text()) if deployment.exists() else None
    stages = read_stages(run_dir)
    refit = json.loads((run_dir / REFIT).read_text()) if (run_dir / REFIT).exists() else None
    if refit and refit["refit"] and refit["refit"]["verdict"]["decision"] != "promote":
        verdict = {
            "decision": refit["refit"]["verdict"]["decision"],
            "summary": f"the refit: {refit['refit']['verdict']['summary']}",
        }
    choice = chosen_for(run_dir)
    summary = {
        "run": run_dir.name,
        "dataset": config.data.dataset or config.site,
        "data": json.loads((run_dir / "data.json").read_text()),
        "preset": choice and choice.to_dict(),
        "training": json.loads((run_dir / "training.json").read_text()),
        "split": evaluation.protocol.split,
        "protocol": str(evaluation.protocol),
        "seeds": {"data": config.data.seed, "train": config.train.seed},
        "config": config.model_dump(mode="json"),
        "versions": {name: version(name) for name in LIBRARIES} | {"code": code_version()},
        "metrics": evaluation.metrics[MODEL],
        "baselines": {
            role: figures for role, figures in evaluation.metrics.items() if role != MODEL
        },
        "gate": {"verdict": verdict["decision"], "reason": verdict["summary"]},
        "refit": refit,
        "model_version": served and served["version"],
        "deployed": served is not None,
        "seconds": {name: record["seconds"] for name, record in stages.items()},
        "peak_memory_mib": {name: record["peak_memory_mib"] for name, record in stages.items()},
    }
    (run_dir / "summary.json").write_text(json.dumps(summary, indent=2))
    return summary
