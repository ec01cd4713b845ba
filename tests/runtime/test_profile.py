"""`basic-run profile`."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from basic_runtime.bundle import Bundle
from basic_runtime.cli import main
from basic_runtime.errors import FileError
from basic_runtime.profile import TOTAL, _Stopwatch, profile, synthetic_picture, write_plot

STAGES = [f"stage {number}" for number in range(8)]


def test_every_part_is_timed(tiny_path: Path) -> None:
    bundle = Bundle(tiny_path)
    result = profile(bundle, width=100, height=70, levels=(0, 7), repetitions=3)
    for level, stages in ((0, STAGES[:1]), (7, STAGES)):
        for direction, own in (("encode", ["g_a", "h_a"]), ("decode", ["g_s"])):
            found = {t.part: t for t in result.timings if (t.level, t.direction) == (level, direction)}
            assert {*own, "h_s", "ans", TOTAL, *stages} <= set(found)
            assert all(0 <= t.p50 <= t.p90 <= t.p99 for t in found.values())
            parts = sum(t.p50 for t in found.values() if t.part != TOTAL)
            assert parts < 3 * found[TOTAL].p50
            assert found["h_s"].gmacs == pytest.approx(5.0 * 7000 / 1e9)
            sums = [t.gmacs for t in found.values() if t.gmacs is not None and t.part != TOTAL]
            assert found[TOTAL].gmacs == pytest.approx(sum(sums))


def test_the_command_prints_a_table_and_a_plot(tiny_path: Path, tmp_path: Path) -> None:
    plot = tmp_path / "plot.png"
    arguments = ["profile", "--bundle", str(tiny_path), "--size", "64x48", "--levels", "0,6-7", "--reps", "2"]
    done = CliRunner().invoke(main, [*arguments, "--plot", str(plot)], prog_name="basic-run")
    assert done.exit_code == 0 and "g_a" in done.stdout and "stage 7" in done.stdout
    assert Image.open(plot).format == "PNG"


def test_the_command_prints_json(tiny_path: Path) -> None:
    arguments = [
        "profile",
        "--bundle",
        str(tiny_path),
        "--size",
        "64x48",
        "--levels",
        "3",
        "--reps",
        "2",
        "--json",
    ]
    done = CliRunner().invoke(main, arguments, prog_name="basic-run")
    found = json.loads(done.stdout)
    assert (found["width"], found["height"], found["repetitions"]) == (64, 48, 2)
    assert {timing["level"] for timing in found["timings"]} == {3}


def test_a_plot_that_cannot_be_written(tiny_path: Path, tmp_path: Path) -> None:
    result = profile(Bundle(tiny_path), width=64, height=64, levels=(0,), repetitions=1)
    with pytest.raises(FileError, match="cannot be written"):
        write_plot(result, tmp_path / "no" / "plot.png")


def test_the_synthetic_picture_is_the_same_each_time() -> None:
    first = synthetic_picture(33, 21)
    assert first.shape == (21, 33, 3) and first.dtype == np.uint8 and first.std() > 10
    np.testing.assert_array_equal(first, synthetic_picture(33, 21))


def test_parts_within_parts_count_once() -> None:
    watch, begun = _Stopwatch(), time.perf_counter()
    with watch("outer"):
        for _ in range(2):
            with watch("inner"):
                time.sleep(0.01)
    assert watch.seconds["inner"] >= 0.02
    assert sum(watch.seconds.values()) <= time.perf_counter() - begun
