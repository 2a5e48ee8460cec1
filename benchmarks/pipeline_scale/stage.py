"""One stage in a process of its own, as the pipeline runs it.

python -m benchmarks.pipeline_scale.stage NAME CONFIG_JSON HOME RUN_DIR
"""

import inspect
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, get_args


def main(name: str, config: str, home: str, run_dir: str) -> None:
    """Call the component; an artifact of any stage is a file of its name under the run."""
    function = getattr(import_module(f"components.{name}"), name).python_func
    given = {"config": config, "home": home, "run_dir": run_dir}
    arguments = {
        parameter.name: given.get(parameter.name) or _artifact(parameter, Path(run_dir))
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name in given or parameter.default is parameter.empty
    }
    function(**arguments)


def _artifact(parameter: inspect.Parameter, run_dir: Path) -> Any:
    kind = get_args(parameter.annotation)[0]
    path = run_dir / "artifacts" / parameter.name
    path.parent.mkdir(exist_ok=True)
    return kind(name=parameter.name, uri=str(path))


if __name__ == "__main__":
    main(*sys.argv[1:])
