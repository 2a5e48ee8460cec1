"""What a search comes to: a preset file, the trials, and a plot of what mattered."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sasrec.errors import DataError
from sasrec.presets.file import write_preset
from sasrec.report import charts
from sasrec.tuning.search import Search, Tried


def write_outcome(search: Search, output: Path, about: dict[str, Any]) -> Tried:
    """Write the best trial as a preset, and beside it `.trials.jsonl` and `.svg`; return it.

    Args:
        output: the preset file.
        about: of the data, for `found` of that file.

    Raises:
        DataError: no trial was completed.
    """
    best, tried = search.best, search.tried
    if best is None:
        raise DataError("tune: no trial was completed; give it more minutes")
    start = next((one for one in tried if search.is_start(one)), None)
    importances = search.importances()
    found = {
        "validation": {"ndcg@10": best.ndcg, "of_the_start": start and start.ndcg},
        "trial": best.number,
        "trials": {state: _count(tried, state) for state in ("complete", "pruned", "fail")},
        "minutes": round(sum(one.seconds for one in tried) / 60, 1),
        "importances": {key: round(share, 3) for key, share in importances.items()},
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        **about,
    }
    write_preset(output, search.preset_of(best), found)
    lines = [json.dumps(asdict(one)) for one in tried]
    output.with_suffix(".trials.jsonl").write_text("\n".join(lines) + "\n")
    points = [(one.settings, one.ndcg) for one in tried if one.ndcg is not None]
    output.with_suffix(".svg").write_text(charts.tuning(importances, points))
    return best


def _count(tried: list[Tried], state: str) -> int:
    return sum(one.state == state for one in tried)
