"""The tests of a GPU, without one: on a simulated GPU, in a process of its own, which sees tests/gpu/simulated in place
of CUDA and of both TensorRTs. What it shows, and what not, is in docs/gpu.md."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
SIMULATED = FOLDER / "simulated"
#: Rules may be broken in finalizers and threads, too.
STRICT = [f"-Werror::pytest.Pytest{kind}ExceptionWarning" for kind in ("Unraisable", "UnhandledThread")]


def test_engines_on_a_simulated_gpu() -> None:
    options = ["-m", "gpu", "-p", "no:cacheprovider", "-p", "no:xdist", *STRICT]
    files = [FOLDER / "test_gpu.py", SIMULATED / "only_simulated.py", SIMULATED / "broken_rules.py"]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", *options, *files],
        env=os.environ | {"PYTHONPATH": str(SIMULATED), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout + done.stderr
