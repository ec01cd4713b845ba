"""`basic-run profile`."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from rich.console import Console

from basic_runtime import machine
from basic_runtime.bundle import Bundle
from basic_runtime.cli import main
from basic_runtime.device_profile import TOTAL, device_profile, device_table
from basic_runtime.engines import Engine, create_backend
from basic_runtime.engines.base import DeviceTimes
from basic_runtime.engines.native import native_version
from basic_runtime.engines.onnxruntime import OnnxRuntimeBackend
from basic_runtime.errors import FileError
from basic_runtime.profile import _Stopwatch, profile, synthetic_picture, write_plot

from .commands import fails

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


def test_an_effort_takes_g_s_and_a_filter() -> None:
    result = profile(Bundle(), width=128, height=128, levels=(7,), repetitions=1, effort=1)
    parts = {t.part: t for t in result.timings if t.direction == "encode"}
    assert {"g_a", "g_s", "filter", "to pixels"} <= set(parts)
    decoded = next(t for t in result.timings if (t.direction, t.part) == ("decode", "g_s"))
    assert parts["g_s"].gmacs == decoded.gmacs is not None


def test_the_command_prints_a_table_and_a_plot(tiny_path: Path, tmp_path: Path) -> None:
    plot = tmp_path / "plot.png"
    arguments = ["profile", "--bundle", str(tiny_path), "--size", "64x48", "--levels", "0,6-7", "--reps", "2"]
    done = CliRunner().invoke(main, [*arguments, "--plot", str(plot)], prog_name="basic-run")
    assert done.exit_code == 0 and "g_a" in done.stdout and "stage 7" in done.stdout
    assert Image.open(plot).format == "PNG"
    again = CliRunner().invoke(main, [*arguments, "--plot", str(plot), "--overwrite"], prog_name="basic-run")
    assert again.exit_code == 0


def test_a_plot_that_cannot_be_made_is_said_before_measuring(
    tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("basic_runtime.profile.profile", lambda *_, **__: pytest.fail("was measured"))
    arguments = ["profile", "--bundle", str(tiny_path), "--plot"]
    done = CliRunner().invoke(main, [*arguments, str(tmp_path / "no" / "plot.png")], prog_name="basic-run")
    assert done.exit_code == 1 and "cannot be written (no folder" in done.stderr
    (tmp_path / "photo.png").write_bytes(b"a photo")
    done = CliRunner().invoke(main, [*arguments, str(tmp_path / "photo.png")], prog_name="basic-run")
    assert done.exit_code == 1 and "photo.png: exists already" in done.stderr
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = CliRunner().invoke(main, [*arguments, str(tmp_path / "plot.png")], prog_name="basic-run")
    assert done.exit_code == 1 and "pip install '.[plot]' in the sources" in done.stderr


def test_what_cannot_be_saved_is_said_before_measuring(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("basic_runtime.machine.measure", lambda *_: pytest.fail("was measured"))
    monkeypatch.setenv("XDG_CACHE_HOME", os.devnull)
    arguments = ["profile", "--save", "--bundle", str(tiny_path)]
    fails(CliRunner().invoke(main, arguments, prog_name="basic-run"), "cannot be written (Not a directory)")
    done = CliRunner().invoke(main, [*arguments, "--size", "768x512"], prog_name="basic-run")
    assert done.exit_code == 2 and "leave --size, --levels" in done.stderr


def test_what_computes_is_named(tiny_path: Path) -> None:
    """The integers of this package, unless the bundle states no formats."""
    for bundle, computing in ((Bundle(), native_version()), (Bundle(tiny_path), create_backend("auto").version)):
        result = profile(bundle, width=64, height=64, levels=(0,), repetitions=1)
        assert result.engine == f"auto {computing}"


def test_levels_that_are_timed_are_counted_on_a_terminal(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them take some minutes."""
    monkeypatch.setattr("basic_runtime.machine.SIZES", ((64, 64), (64, 80)))
    seen: list[tuple[int, int]] = []
    bundle = Bundle(tiny_path)
    machine.measure(bundle, create_backend("auto", 1), 1, lambda done, total: seen.append((done, total)))
    total = 2 * len(bundle.manifest.levels) * (bundle.default_effort + 1)
    assert seen == [(done, total) for done in range(1, total + 1)]
    script = (
        "from basic_runtime import cli, machine; machine.SIZES = ((64, 64),); "
        f"cli.main(['profile', '--save', '--reps', '1', '--bundle', {str(tiny_path)!r}])"
    )
    ours, theirs = pty.openpty()
    running = subprocess.Popen([sys.executable, "-P", "-c", script], stderr=theirs, stdout=subprocess.DEVNULL)
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # what reading ends with
        while data := os.read(ours, 1 << 16):
            shown += data
    os.close(ours)
    assert running.wait(100) == 0 and f"{total // 2}/{total // 2}".encode() in shown and b"timing" in shown


def test_a_size_that_no_codec_takes() -> None:
    done = CliRunner().invoke(main, ["profile", "--size", "99999x99999"], prog_name="basic-run")
    assert done.exit_code == 2 and "--size 99999x99999: more than 128000000 pixels" in done.stderr


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


class Clocked(OnnxRuntimeBackend):
    """Stands for a device: its runs are the computing, and copying their outputs is the transfer."""

    def __init__(self) -> None:
        super().__init__(threads=1)
        self.spans: list[tuple[str, float]] = []

    def device_times(self) -> DeviceTimes:
        def collect() -> dict[str, float]:
            found = {k: sum(s for kind, s in self.spans if kind == k) for k in {kind for kind, _ in self.spans}}
            self.spans.clear()
            return found

        return collect

    def load(self, model: Path, *, external_data: Path, strict: bool) -> Engine:
        inner, spans = super().load(model, external_data=external_data, strict=strict), self.spans

        class Timed(Engine):
            inputs, outputs = inner.inputs, inner.outputs

            def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
                begin = time.perf_counter()
                found = inner.run(inputs)
                middle = time.perf_counter()
                found = {name: values.copy() for name, values in found.items()}
                spans.extend([("compute", middle - begin), ("transfer", time.perf_counter() - middle)])
                return found

            def layer_times(self) -> dict[str, float]:
                return {"conv": 0.5, "relu": 0.25}

        return Timed()


def test_device_time_goes_to_the_parts(tiny_path: Path) -> None:
    picture = synthetic_picture(100, 70)
    timings, layers = device_profile(Bundle(tiny_path), Clocked(), picture, (0, 7), 3)
    found = {(t.level, t.direction, t.part, t.kind): t for t in timings}
    for level, stages in ((0, STAGES[:1]), (7, STAGES)):
        for direction, own in (("encode", ["g_a", "h_a"]), ("decode", ["g_s"])):
            parts = {key[2] for key in found if key[:2] == (level, direction)}
            assert parts == {*own, "h_s", *stages, TOTAL}
            total = {kind: found[level, direction, TOTAL, kind] for kind in ("compute", "transfer", "all")}
            assert all(0 < t.p50 <= t.p90 <= t.p99 for t in total.values())
            assert total["compute"].p50 < total["all"].p50
    wanted = {"g_a", "h_a", "h_s", "g_s", *STAGES}
    assert {layer.part for layer in layers if layer.level == 7} == wanted
    assert {layer.layer for layer in layers} == {"conv", "relu"}


def test_a_back_end_without_a_device_has_no_device_times(tiny_path: Path) -> None:
    result = profile(Bundle(tiny_path), width=64, height=64, levels=(0,), repetitions=1)
    assert result.device == () and result.layers == ()


def test_device_times_are_shown_and_plotted(tiny_path: Path, tmp_path: Path) -> None:
    bundle, picture = Bundle(tiny_path), synthetic_picture(64, 64)
    device, layers = device_profile(bundle, Clocked(), picture, (0,), 1)
    result = replace(profile(bundle, width=64, height=64, levels=(0,), repetitions=1), device=device, layers=layers)
    write_plot(result, tmp_path / "plot.png")
    assert Image.open(tmp_path / "plot.png").size[0] > 500
    console = Console(width=120, record=True)
    console.print(device_table(device))
    assert "GPU time" in console.export_text() and json.loads(json.dumps(asdict(result)))["device"][0]["part"] == "g_a"
