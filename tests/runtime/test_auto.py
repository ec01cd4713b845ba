"""The engine that is chosen by measuring, and the pixel path in bf16."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
from click.testing import CliRunner

from basic_runtime import __version__
from basic_runtime.cache import cache_folder
from basic_runtime.cli import main
from basic_runtime.codec import Codec
from basic_runtime.engines import BF16, FLOAT32, Engine, available_backends, create_backend
from basic_runtime.engines.auto import GRID, TIMED_VALUES, RacingEngine, _sample, fastest
from basic_runtime.engines.onnxruntime import OnnxRuntimeEngine
from basic_runtime.engines.openvino import OpenVinoBackend, OpenVinoEngine
from basic_runtime.engines.torch import TorchBackend
from basic_runtime.errors import EngineError, MissingExtraError

Photo = Callable[[int, int], np.ndarray]

KINDS = {"onnxruntime": OnnxRuntimeEngine, "openvino": OpenVinoEngine}


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def load(codec: Codec, graph: str) -> Engine:
    bundle = codec.bundle
    strict = bundle.graph(graph).path == "entropy"
    return codec.backend.load(bundle.graph_path(graph), external_data=bundle.weights_folder, strict=strict)


def test_the_choice_is_remembered(tiny_path: Path, photo: Photo) -> None:
    codec = Codec(tiny_path, "auto", threads=1)
    graph = codec.bundle.level(0).g_a
    assert isinstance(load(codec, graph), RacingEngine)
    codec.encode(photo(64, 128), level=0)
    answers = list((cache_folder() / "engines").iterdir())
    assert len(answers) == 2  # g_a and h_a
    for name, kind in KINDS.items():
        for answer in answers:
            answer.write_text(name)
        assert isinstance(load(codec, graph), kind)


def test_entropy_graphs_are_onnx_runtime_s(tiny_path: Path) -> None:
    codec = Codec(tiny_path, "auto", threads=1)
    spec = codec.bundle.entropy(0)
    for graph in spec.graphs:
        assert isinstance(load(codec, graph), OnnxRuntimeEngine)


def test_the_same_picture_as_with_one_engine(tiny_path: Path, photo: Photo) -> None:
    picture = photo(100, 150)
    auto, one = Codec(tiny_path, "auto", threads=1), Codec(tiny_path, threads=1)
    data = one.encode(picture)
    for _ in range(2):
        difference = auto.decode(data).astype(int) - one.decode(data)
        assert np.abs(difference).max() <= 1
        one.decode(auto.encode(picture))


class Slowed(Engine):
    """A real engine that takes its time."""

    def __init__(self, inner: Engine) -> None:
        self.inner, self.inputs, self.outputs = inner, inner.inputs, inner.outputs

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        time.sleep(0.1)
        return self.inner.run(inputs)


def test_the_slower_engine_loses(tiny_path: Path) -> None:
    codec = Codec(tiny_path, threads=1)
    engine = load(codec, codec.bundle.level(0).h_a)
    y = np.zeros((1, codec.bundle.manifest.y_channels, 8, 8), np.float32)
    assert fastest({"slow": Slowed(engine), "quick": engine}, {"y": y}) == "quick"
    assert fastest({"quick": engine, "slow": Slowed(engine)}, {"y": y}) == "quick"


class Failing(Slowed):
    """An engine that cannot run this graph after all."""

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        raise EngineError("out of order")


def test_an_engine_that_fails_loses(tiny_path: Path) -> None:
    codec = Codec(tiny_path, threads=1)
    engine = load(codec, codec.bundle.level(0).h_a)
    y = np.zeros((1, codec.bundle.manifest.y_channels, 8, 8), np.float32)
    assert fastest({"first": engine, "failing": Failing(engine)}, {"y": y}) == "first"
    assert fastest({"failing": Failing(engine), "second": engine}, {"y": y}) == "second"
    with pytest.raises(EngineError, match="out of order"):
        RacingEngine({"failing": Failing(engine)}, ["question"]).run({"y": y})


@pytest.mark.parametrize(
    "shape", [(1, 3, 4096, 1024), (1, 320, 256, 100), (1, 3, 64, 64), (1, 320, 4, 4), (1, 9, 7, 1)]
)
def test_engines_are_timed_on_inputs_of_one_size(shape: tuple[int, ...]) -> None:
    gain = np.ones((1, shape[1], 1, 1), np.float32)
    sample = _sample({"x": np.zeros(shape, np.float32), "gain": gain})
    assert sample["gain"] is gain and TIMED_VALUES / 4 < sample["x"].size <= TIMED_VALUES
    for found, side in zip(sample["x"].shape, shape, strict=True):
        assert found % side == 0 or found % GRID == 0
    assert sample["x"].flags.c_contiguous


@pytest.mark.parametrize("sides", [(640, 640), (1152, 704), (64, 4096), (128, 64)])
def test_inputs_of_unequal_strides_stay_in_proportion(sides: tuple[int, int]) -> None:
    """Those of the graph that a search takes its derivatives from: pixels and latents."""
    height, width = sides
    found = _sample({
        "x": np.zeros((1, 3, height, width), np.float32),
        "y": np.zeros((1, 320, height // 16, width // 16), np.float32),
        "gain": np.ones((1, 320, 1, 1), np.float32),
    })  # fmt: skip
    assert found["x"].shape[2] == 16 * found["y"].shape[2] and found["x"].shape[3] == 16 * found["y"].shape[3]
    assert TIMED_VALUES / 4 < found["x"].size <= TIMED_VALUES


def test_an_input_of_one_position_is_timed_as_it_is() -> None:
    x = np.zeros((1, 8, 1, 1), np.float32)
    assert _sample({"x": x})["x"] is x


def test_another_version_or_thread_count_is_measured_anew(tiny_path: Path, photo: Photo) -> None:
    Codec(tiny_path, "auto", threads=1).encode(photo(64, 64), level=0)
    other = Codec(tiny_path, "auto", threads=2)
    assert isinstance(load(other, other.bundle.level(0).g_a), RacingEngine)


def test_bf16_changes_pixels_a_little_and_latents_not_at_all(tiny_path: Path, photo: Photo) -> None:
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        for name in ("auto", "openvino"):
            with pytest.raises(EngineError, match="this processor has no bf16"):
                create_backend(name, precision=BF16)
        return
    plain = Codec(tiny_path, threads=1)
    for name in ("auto", "openvino"):
        reduced = Codec(tiny_path, create_backend(name, 1, BF16))
        assert all(check.error is None for check in reduced.verify())
        np.testing.assert_allclose(plain.decode(reduced.encode(photo(128, 192))), photo(128, 192), atol=64)
        x = np.random.default_rng(1).uniform(0, 1, (1, 3, 64, 64)).astype(np.float32)
        gain = plain.bundle.encode_gain(30)
        exact, found = (load(c, plain.bundle.level(0).g_a).run({"x": x, "gain": gain})["y"] for c in (plain, reduced))
        assert 0 < np.abs(exact - found).max() < 0.02 * np.abs(exact).max()


def test_other_engines_have_no_bf16() -> None:
    with pytest.raises(EngineError, match="engine 'onnxruntime' computes in float32, not in bf16"):
        create_backend("onnxruntime", precision=BF16)


@pytest.fixture
def _no_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("basic_runtime.engines.onnxruntime.find_spec", lambda name: None)


@pytest.mark.usefixtures("_no_onnxruntime")
def test_without_onnx_runtime_openvino_runs_alone(photo: Photo) -> None:
    codec = Codec(threads=1, precision=FLOAT32)
    assert isinstance(load(codec, codec.bundle.level(0).g_a), OpenVinoEngine)
    assert codec.decode(codec.encode(photo(64, 64), level=0)).shape == (64, 64, 3)
    assert "onnxruntime" not in codec.backend.version


@pytest.mark.usefixtures("_no_onnxruntime")
def test_without_any_library_integers_are_all_there_is(
    tiny_path: Path, photo: Photo, monkeypatch: pytest.MonkeyPatch
) -> None:
    for backend in (OpenVinoBackend, TorchBackend):
        monkeypatch.setattr(backend, "available", lambda: False)
    codec = Codec(threads=1)
    assert codec.decode(codec.encode(photo(64, 64), level=0, effort=2)).shape == (64, 64, 3)
    assert codec.backend.version == f"basic-codec {__version__}"
    for make in (
        lambda: create_backend("onnxruntime"),
        lambda: create_backend("auto", precision=FLOAT32),
        lambda: Codec(tiny_path, threads=1).encode(photo(64, 64)),  # states no formats
    ):
        with pytest.raises(MissingExtraError, match=r"'onnxruntime' needs packages .* pip install '\.\[onnxruntime\]'"):
            make()
    done = CliRunner().invoke(main, ["verify", "--threads", "1"])
    assert done.exit_code == 0 and done.output.startswith(f"auto basic-codec {__version__}: entropy variant 0 is exact")


def test_verify_names_the_default_engine_first(tiny_path: Path) -> None:
    done = CliRunner().invoke(main, ["verify", "--threads", "1", "--bundle", str(tiny_path)])
    assert done.exit_code == 0, done.output
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert list(dict.fromkeys(names)) == ["auto", *available_backends()]
