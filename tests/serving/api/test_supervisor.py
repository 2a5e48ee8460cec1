"""BentoML's supervisor imports the service too, and serves nothing: it should not pay for it."""

import subprocess
import sys


def test_the_application_is_there_without_what_only_a_worker_needs():
    code = "import sys; import serving.api.app; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "feast", "pandas", "sklearn"} & set(done.stdout.split())
