"""Programs that benchmarks run in processes of their own: importing a benchmark does not look into these."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_the_cost_table_measures_memory_of_a_process(tiny_path: Path, tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("cost_table", BENCHMARKS / "cost_table.py")
    assert spec is not None and spec.loader is not None
    cost_table = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cost_table)
    for direction in ("encode", "decode"):
        arguments = [64, 64, 0, direction, str(tmp_path / "file"), str(tiny_path), "onnxruntime", 1]
        command = [sys.executable, "-P", "-c", cost_table.CHILD, json.dumps(arguments)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert 20 < float(done.stdout) < 1000
