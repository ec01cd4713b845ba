"""Back-ends: every operator of the torch engine against ONNX Runtime, errors, settings."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from basic_runtime.bundle import Bundle
from basic_runtime.codec import Codec
from basic_runtime.engines import BACKENDS, Backend, Engine, available_backends, create_backend, cuda
from basic_runtime.engines.native import native_engines
from basic_runtime.engines.onnxruntime import CudaBackend, OnnxRuntimeBackend, _load_cuda
from basic_runtime.engines.openvino import OpenVinoBackend
from basic_runtime.errors import EngineError, MissingExtraError

X = np.random.default_rng(5).normal(0, 2, (1, 8, 6, 10)).astype(np.float32)


def save_graph(
    folder: Path,
    nodes: list[onnx.NodeProto],
    constants: dict[str, np.ndarray],
    outputs: tuple[str, ...] = ("y",),
) -> Path:
    """A graph from "x" to `outputs` in a file."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, "h", "w"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    path = folder / "graph.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def run_on(name: str, path: Path, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    engine = create_backend(name).load(path, external_data=path.parent, strict=True)
    return engine.run(inputs)[engine.outputs[0]]


def node(op: str, *inputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, list(inputs), ["y"], **attributes)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(6).normal(0, 1, shape).astype(np.float32)


FLOAT = TensorProto.FLOAT

OPERATORS: list[tuple[str, list[onnx.NodeProto], dict[str, np.ndarray]]] = [
    (
        "conv",
        [node("Conv", "x", "w", "b", pads=[1] * 4, strides=[2, 2])],
        {"w": floats(4, 8, 3, 3), "b": floats(4)},
    ),
    (
        "conv, uneven pads, dilated",
        [node("Conv", "x", "w", pads=[0, 1, 2, 3], dilations=[2, 1])],
        {"w": floats(4, 8, 3, 3)},
    ),
    ("conv, groups", [node("Conv", "x", "w", group=4)], {"w": floats(4, 2, 1, 1)}),
    (
        "deconv",
        [node("ConvTranspose", "x", "w", "b", pads=[2] * 4, strides=[2, 2], output_padding=[1, 1])],
        {"w": floats(8, 3, 5, 5), "b": floats(3)},
    ),
    (
        "deconv, uneven pads",
        [node("ConvTranspose", "x", "w", pads=[0, 1, 2, 1], strides=[2, 2])],
        {"w": floats(8, 3, 5, 5)},
    ),
    ("relu", [node("Relu", "x")], {}),
    ("leaky relu", [node("LeakyRelu", "x", alpha=0.2)], {}),
    ("sigmoid", [node("Sigmoid", "x")], {}),
    ("tanh", [node("Tanh", "x")], {}),
    ("exp", [node("Exp", "x")], {}),
    ("neg", [node("Neg", "x")], {}),
    ("floor", [node("Floor", "x")], {}),
    ("ceil", [node("Ceil", "x")], {}),
    ("round half to even", [node("Round", "c")], {"c": np.array([0.5, 1.5, -0.5], np.float32)}),
    ("add", [node("Add", "x", "c")], {"c": floats(8, 1, 1)}),
    ("sub", [node("Sub", "x", "c")], {"c": floats(8, 1, 1)}),
    ("mul", [node("Mul", "x", "c")], {"c": floats(1)}),
    ("div", [node("Div", "x", "c")], {"c": floats(8, 1, 1)}),
    ("sqrt", [helper.make_node("Abs", ["x"], ["a"]), node("Sqrt", "a")], {}),
    ("pow", [node("Pow", "x", "c")], {"c": np.array(2, np.float32)}),
    ("clip", [node("Clip", "x", "l", "h")], {"l": np.array(-1, np.float32), "h": np.array(2, np.float32)}),
    ("clip above", [node("Clip", "x", "", "h")], {"h": np.array(1, np.float32)}),
    ("min", [node("Min", "x", "c", "d")], {"c": floats(8, 1, 1), "d": floats(1)}),
    ("max", [node("Max", "x", "c")], {"c": floats(8, 1, 1)}),
    ("sum", [node("Sum", "x", "x", "c")], {"c": floats(8, 1, 1)}),
    ("concat", [node("Concat", "x", "x", axis=1)], {}),
    (
        "slice",
        [node("Slice", "x", "s", "e", "a", "t")],
        {"s": ints(1, 0), "e": ints(-1, 99), "a": ints(1, -1), "t": ints(2, 3)},
    ),
    ("slice, first axes", [node("Slice", "x", "s", "e")], {"s": ints(0, 2), "e": ints(1, 5)}),
    ("depth to space, DCR", [node("DepthToSpace", "x", blocksize=2)], {}),
    ("depth to space, CRD", [node("DepthToSpace", "x", blocksize=2, mode="CRD")], {}),
    ("space to depth", [node("SpaceToDepth", "x", blocksize=2)], {}),
    (
        "cast of a stored integer",
        [
            helper.make_node("Cast", ["c"], ["f"], to=FLOAT),
            helper.make_node("Mul", ["f", "f"], ["g"]),
            node("Mul", "x", "g"),
        ],
        {"c": np.array([7], np.int8)},
    ),
    ("cast from half", [node("Cast", "c", to=FLOAT)], {"c": np.array([1.5], np.float16)}),
    (
        "pad",
        [node("Pad", "x", "p", "v")],
        {"p": ints(0, 1, 2, 0, 0, 3, 0, 1), "v": np.array(4, np.float32)},
    ),
    ("pad, edge", [node("Pad", "x", "p", mode="edge")], {"p": ints(0, 0, 2, 1, 0, 0, 3, 1)}),
    ("pad, reflect", [node("Pad", "x", "p", mode="reflect")], {"p": ints(0, 0, 2, 1, 0, 0, 3, 1)}),
    ("pad, axes", [node("Pad", "x", "p", "", "a")], {"p": ints(1, 2), "a": ints(-1)}),
    ("gather", [node("Gather", "x", "i", axis=1)], {"i": ints(3, 0, -1)}),
    ("reshape", [node("Reshape", "x", "s")], {"s": ints(0, 4, -1)}),
    ("transpose", [node("Transpose", "x", perm=[0, 2, 3, 1])], {}),
    ("transpose, reversed", [node("Transpose", "x")], {}),
    ("identity", [node("Identity", "x")], {}),
    (
        "constant",
        [
            helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(floats(8, 1, 1))),
            node("Mul", "x", "c"),
        ],
        {},
    ),
    (
        "constant number",
        [helper.make_node("Constant", [], ["c"], value_float=2.5), node("Mul", "x", "c")],
        {},
    ),
    ("matmul", [node("MatMul", "x", "c")], {"c": floats(10, 3)}),
    (
        "split",
        [helper.make_node("Split", ["x", "s"], ["a", "b"], axis=1), node("Sub", "a", "b")],
        {"s": ints(4, 4)},
    ),
    (
        "split in equal parts",
        [helper.make_node("Split", ["x"], ["a", "b"], axis=1, num_outputs=2), node("Sub", "a", "b")],
        {},
    ),
    (
        "shape, gather, unsqueeze, concat, reshape",
        [
            helper.make_node("Shape", ["x"], ["s"]),
            helper.make_node("Gather", ["s", "two"], ["h"]),
            helper.make_node("Unsqueeze", ["h", "zero"], ["hs"]),
            helper.make_node("Concat", ["hs", "rest"], ["t"], axis=0),
            node("Reshape", "x", "t"),
        ],
        {"two": np.array(2, np.int64), "zero": ints(0), "rest": ints(-1)},
    ),
    ("squeeze", [node("Squeeze", "x", "a")], {"a": ints(0)}),
    (
        "expand",
        [helper.make_node("Expand", ["c", "s"], ["e"]), node("Add", "x", "e")],
        {"c": floats(8, 1, 1), "s": ints(8, 6, 10)},
    ),
]


@pytest.mark.parametrize(("nodes", "constants"), [case[1:] for case in OPERATORS], ids=[c[0] for c in OPERATORS])
def test_torch_computes_as_onnxruntime(
    tmp_path: Path, nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray]
) -> None:
    path = save_graph(tmp_path, nodes, constants)
    expected = run_on("onnxruntime", path, {"x": X})
    found = run_on("torch", path, {"x": X})
    assert found.shape == expected.shape and found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_torch_names_an_operator_it_lacks(tmp_path: Path) -> None:
    path = save_graph(tmp_path, [node("Softplus", "x")], {})
    with pytest.raises(EngineError, match="lacks the ONNX operators Softplus"):
        run_on("torch", path, {"x": X})


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "torch"])
def test_a_file_that_is_no_graph(tmp_path: Path, name: str) -> None:
    path = tmp_path / "graph.onnx"
    path.write_bytes(b"nonsense")
    with pytest.raises(EngineError, match="graph.onnx") as caught:
        run_on(name, path, {"x": X})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "torch"])
def test_inputs_of_a_wrong_shape(tmp_path: Path, name: str) -> None:
    path = save_graph(tmp_path, [node("Conv", "x", "w")], {"w": floats(4, 8, 3, 3)})
    with pytest.raises(EngineError):
        run_on(name, path, {"x": X[:, :3]})


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "torch"])
def test_results_stay_when_the_engine_runs_again(tmp_path: Path, name: str) -> None:
    path = save_graph(tmp_path, [node("Relu", "x")], {})
    engine = create_backend(name, threads=1).load(path, external_data=tmp_path, strict=True)
    first = engine.run({"x": X})["y"]
    engine.run({"x": -X})
    np.testing.assert_array_equal(first, np.maximum(X, 0))


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "torch"])
def test_outputs_keep_their_names_and_order(tmp_path: Path, name: str) -> None:
    """Regression: outputs that share a tensor with inner values, or with each other, were named at random."""
    nodes = [
        helper.make_node("Relu", ["x"], ["inner"]),
        helper.make_node("Identity", ["inner"], ["zeta"]),
        helper.make_node("Identity", ["inner"], ["alpha"]),
        helper.make_node("Neg", ["inner"], ["y"]),
    ]
    path = save_graph(tmp_path, nodes, {}, outputs=("zeta", "y", "alpha", "inner"))
    engine = create_backend(name).load(path, external_data=tmp_path, strict=True)
    assert engine.inputs == ("x",) and engine.outputs == ("zeta", "y", "alpha", "inner")
    found = engine.run({"x": X})
    for output, sign in (("zeta", 1), ("y", -1), ("alpha", 1), ("inner", 1)):
        np.testing.assert_array_equal(found[output], sign * np.maximum(X, 0))


def test_an_unknown_engine() -> None:
    with pytest.raises(EngineError, match="no engine is called 'abacus'; choose one of onnxruntime, "):
        create_backend("abacus")


@pytest.mark.parametrize("name", ["onnxruntime-cuda", "onnxruntime-tensorrt"])
def test_a_provider_is_there_or_its_extra_is_named(name: str) -> None:
    if name in available_backends():
        assert create_backend(name).name == name
        return
    with pytest.raises(MissingExtraError, match=rf"engine '{name}' .* pip install '\.\[gpu\]' in the sources"):
        create_backend(name)


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_falls_back_is_refused(tmp_path: Path) -> None:
    """ONNX Runtime itself takes the CPU without an error when a provider cannot start."""

    class Wishful(OnnxRuntimeBackend):
        name = "wishful"
        provider = "CPUExecutionProvider"

        def load(self, model: Path, *, external_data: Path, strict: bool) -> Engine:
            self.provider = "XnnpackExecutionProvider"  # type: ignore[misc]
            return super().load(model, external_data=external_data, strict=strict)

    path = save_graph(tmp_path, [node("Relu", "x")], {})
    with pytest.raises(EngineError, match=r"'wishful' fell back to CPUExecutionProvider|refuses"):
        Wishful().load(path, external_data=tmp_path, strict=True)


def test_a_provider_that_fails_is_no_reason_for_the_cpu(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """ONNX Runtime itself would print so on standard output, where a file may go, and take the CPU."""

    class Failing(OnnxRuntimeBackend):
        def _provider_options(self, strict: bool) -> Any:
            return "options that make no sense"

    path = save_graph(tmp_path, [node("Relu", "x")], {})
    with pytest.raises(EngineError, match="ONNX Runtime refuses .*; choose another engine with --engine"):
        Failing(1).load(path, external_data=tmp_path, strict=True)
    assert capfd.readouterr() == ("", "")


def test_available_engines_have_a_version() -> None:
    found = available_backends()
    assert "onnxruntime" in found and set(found) <= set(BACKENDS)
    for name in found:
        backend = create_backend(name)
        assert backend.name == name and backend.version and backend.precision == "float32"


class RoundsToHalf(Backend):
    """A real engine whose inputs pass through float16, as one with reduced precision would have it."""

    name = "half"
    version = "1"

    @classmethod
    def available(cls) -> bool:
        return True

    def load(self, model: Path, *, external_data: Path, strict: bool) -> Engine:
        inner = OnnxRuntimeBackend().load(model, external_data=external_data, strict=strict)

        class Rounded(Engine):
            inputs, outputs = inner.inputs, inner.outputs

            def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
                halves = {k: v.astype(np.float16).astype(np.float32) for k, v in inputs.items()}
                return {k: v.astype(np.float16).astype(np.float32) for k, v in inner.run(halves).items()}

        return Rounded()


def test_an_engine_of_less_precision_fails_the_golden_vector(tiny_path: Path) -> None:
    codec = Codec(Bundle(tiny_path), RoundsToHalf())
    with pytest.raises(EngineError, match="engine 'half' 1 does not reproduce the golden vector of model tiny-1"):
        codec.encode(np.zeros((8, 8, 3), np.uint8))
    assert isinstance(codec.verify()[1].error, EngineError)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "torch"])
def test_engines_pass_the_golden_vectors(tiny_path: Path, name: str) -> None:
    assert [check.error for check in Codec(tiny_path, name).verify()] == [None, None]


def test_a_passed_golden_vector_is_remembered(tiny_path: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    Codec(tiny_path).load(7)
    remembered = list((tmp_path / "basic" / "golden").iterdir())
    assert len(remembered) == 1
    Codec(tiny_path).load(7)
    assert list((tmp_path / "basic" / "golden").iterdir()) == remembered
    Codec(tiny_path, threads=1).load(7)
    assert len(list((tmp_path / "basic" / "golden").iterdir())) == 2


def test_a_cache_that_cannot_be_written_is_no_error(tiny_path: Path, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    Codec(tiny_path).load(7)


@pytest.mark.parametrize(
    ("number", "kind", "said"),
    [(errno.ENOMEM, MemoryError, None), (errno.EMFILE, EngineError, r"\.onnx: cannot be read \(too many open files\)")],
)
def test_what_the_system_refuses_is_no_reason_for_another_engine(
    number: int, kind: type[Exception], said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was kept for as long as the codec, or missed as a package that is not installed."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(np, "memmap", refuse)
    with pytest.raises(kind, match=said):
        native_engines(Bundle(), 0, threads=1)


def test_openvino_leaves_the_weights_unlinked_while_it_reads(tiny_path: Path) -> None:
    """onnx, in another process, refuses a weights file that has several hard links."""
    backend, bundle = OpenVinoBackend(1), Bundle(tiny_path)
    core, links = backend._core, []

    class Watched:
        compile_model = staticmethod(core.compile_model)

        def read_model(self, path: Path) -> object:
            links.append((tiny_path / "weights.bin").stat().st_nlink)
            return core.read_model(path)

    backend._core = Watched()
    graph = bundle.level(0).g_a
    backend.load(bundle.graph_path(graph), external_data=bundle.weights_folder, strict=False)
    assert links == [1]


def test_cuda_takes_no_algorithm_that_rounds_where_results_must_be_exact() -> None:
    """On an H100 the library's search for the fastest one failed the golden vectors."""
    backend = object.__new__(CudaBackend)  # as made where there is no GPU
    assert backend._provider_options(strict=True) == {"use_tf32": "0", "cudnn_conv_algo_search": "DEFAULT"}
    assert backend._provider_options(strict=False) == {"use_tf32": "1"}


def test_a_golden_check_on_a_gpu_is_remembered_for_that_gpu() -> None:
    """Others have other kernels."""
    backend = object.__new__(CudaBackend)  # as made where there is no GPU
    backend.optimisation = "all"
    assert backend.settings() == ["all", cuda.device_name() if cuda.gpu_present() else None]


def test_looking_for_cuda_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    _load_cuda()
    assert capfd.readouterr() == ("", "")
