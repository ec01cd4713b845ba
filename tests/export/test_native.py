"""The integer networks that the runtime finds in exported graphs: the same values as PyTorch and ONNX Runtime."""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from basic_export.stages import CompiledEntropy, compile_entropy
from basic_runtime._native import IntegerNet, KernelError, Plane, dots_kernels, pixels_of_patches
from basic_runtime.bundle import Bundle
from basic_runtime.codec import Codec
from basic_runtime.engines.base import Phases
from basic_runtime.engines.entropy_graph import NotIntegerError, entropy_graph
from basic_runtime.engines.integer_net import IntegerGraph
from basic_runtime.engines.native import NativeEngine, native_engines
from basic_runtime.engines.onnx_file import UnreadableError, read_graph
from basic_runtime.engines.onnxruntime import OnnxRuntimeBackend
from basic_runtime.errors import EngineError
from basic_runtime.latent import slot_name
from basic_train.model.presets import PAPER
from basic_train.model.quantise import quantise
from basic_train.model.supernet import Supernet

from .models import Exported
from .test_stages import GROUPINGS, TINY, latents, quantised, run, split_slots

GOLDEN_OF_OLD = Path(__file__).parents[1] / "golden" / "tiny-golden"


def network(model: ModelProto, folder: Path) -> IntegerGraph:
    path = folder / f"{model.graph.name}.onnx"
    path.write_bytes(model.SerializeToString())
    return entropy_graph(read_graph(path, folder))


def engine(model: ModelProto, folder: Path, threads: int = 1, kernel: str | None = None) -> NativeEngine:
    return NativeEngine(network(model, folder), threads, kernel)


def check_entropy(entropy, compiled: CompiledEntropy, folder: Path, size: tuple[int, int]) -> None:
    """All outputs of h_s and the stages, as other engines give them, and means and scales as PyTorch does."""
    grouping = entropy.grouping
    rng = np.random.default_rng(0)
    h, w = size
    channels = entropy.layers[0].weight.shape[0 if entropy.layers[0].transposed else 1]
    z = rng.integers(-9, 10, (1, channels, h // 4, w // 4)).astype(np.float32)
    y_hat = rng.integers(-500, 500, (1, len(entropy.context.y_shift), h, w)).astype(np.float32)
    mean, scale = (t.numpy() for t in entropy.parameters(torch.from_numpy(y_hat), entropy.h_s(torch.from_numpy(z))))
    slots, means, scales = (split_slots(values, grouping) for values in (y_hat, mean, scale))
    state = engine(compiled.h_s, folder).run({"z": z})
    expected = run(compiled.h_s, {"z": z})
    for stage in (None, *compiled.stages):
        if stage is not None:
            found = engine(stage.model, folder, threads=2).run(state)
            expected = run(stage.model, {name: np.asarray(state[name], np.float32) for name in stage.inputs})
            order = [slot_name(slot) for slot in stage.slots]
            np.testing.assert_array_equal(found["mean"], np.concatenate([means[n] for n in order], 1))
            np.testing.assert_array_equal(found["scale"], np.concatenate([scales[n] for n in order], 1))
            state |= found | {n: slots[n] for n in order}
        for name, values in expected.items():
            np.testing.assert_array_equal(np.asarray(state[name]), values, err_msg=name)


@pytest.mark.parametrize("size", [(8, 12), (4, 4)])
@pytest.mark.parametrize("name", GROUPINGS)
def test_any_grouping(name: str, size: tuple[int, int], tmp_path: Path) -> None:
    entropy = quantised(GROUPINGS[name])
    check_entropy(entropy, compile_entropy(entropy), tmp_path, size)


@pytest.mark.parametrize("scale_parameter", ["log", "linear"])
def test_transposed_convolutions(scale_parameter: str, tmp_path: Path) -> None:
    """h_s of the paper, whose steps up are 5x5 with stride 2; and its scales, which need more than 16 bits."""
    torch.manual_seed(4)
    narrow = tuple(type(TINY.contexts[0])(24, 24, 24) for _ in TINY.contexts)
    small = replace(
        PAPER, widths=TINY.widths, hyper_widths=TINY.hyper_widths, priors=TINY.priors, contexts=narrow,
        y_channels=24, z_channels=TINY.z_channels, grouping=GROUPINGS["checkerboard"].tile.tolist(),
        scale_parameter=scale_parameter,
    )  # fmt: skip
    entropy = quantise(Supernet(small).eval(), 1, latents(4, 24, TINY.z_channels))
    assert any(layer.transposed for layer in entropy.layers)
    check_entropy(entropy, compile_entropy(entropy), tmp_path, (8, 12))


def test_all_graphs_of_a_bundle_and_all_kernels(exported: Exported) -> None:
    bundle = Bundle(exported.path)
    reference = OnnxRuntimeBackend(1)
    z = np.random.default_rng(3).integers(-127, 128, (1, TINY.z_channels, 5, 7)).astype(np.float32)
    for variant, spec in enumerate(bundle.manifest.entropy_variants):
        assert set(native_engines(bundle, variant, 1) or {}) == set(spec.graphs)
        path = bundle.graph_path(spec.h_s)
        wanted = reference.load(path, external_data=bundle.weights_folder, strict=True).run({"z": z})
        graph = entropy_graph(read_graph(path, bundle.weights_folder))
        for kernel in dots_kernels():
            for threads in (1, 2, 3):
                found = NativeEngine(graph, threads, kernel).run({"z": z})
                assert all(np.array_equal(np.asarray(found[name]), wanted[name]) for name in wanted)


def test_files_are_those_of_other_engines(exported: Exported, photo_folder: Path) -> None:
    from basic_runtime.imageio import read_picture

    picture = read_picture(str(photo_folder / "chelsea.png"))
    other = OnnxRuntimeBackend(2)
    other.native_entropy = False
    name = "onnxruntime"
    codecs = [Codec(exported.path, name, threads=1), Codec(exported.path, name, threads=2), Codec(exported.path, other)]
    codecs += [Codec(exported.path, name, tile_pixels=64), Codec(exported.path, "torch"), Codec(exported.path)]
    for level in (0, 7):
        files = [codec.encode(picture, quality=70, level=level) for codec in codecs[:4]]
        for codec in codecs:
            for data in files:
                codec.decode(data)  # raises where latents differ from the encoder's
        assert files[0] == files[1] == files[2]
    assert all(check.error is None for codec in codecs for check in codec.verify())


def test_the_codec_computes_the_entropy_path_here(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """No session is made for it, which is most of what starting takes."""
    loaded: list[str] = []
    load = OnnxRuntimeBackend.load

    def noted(self, model: Path, **settings):
        loaded.append(model.stem)
        return load(self, model, **settings)

    monkeypatch.setattr(OnnxRuntimeBackend, "load", noted)
    codec = Codec(exported.path, "onnxruntime", threads=1)
    codec.load(7)
    level = codec.bundle.level(7)
    assert sorted(loaded) == sorted((level.g_a, level.h_a, level.g_s))
    Codec(exported.path, threads=1).load(7)  # which computes all of it here
    assert len(loaded) == 3


def test_graphs_of_another_form_run_as_before() -> None:
    """Those of the first exporter leak before they round."""
    bundle = Bundle(GOLDEN_OF_OLD)
    assert native_engines(bundle, 0, 1) is None
    assert all(check.error is None for check in Codec(bundle, threads=1).verify())


def test_the_reader_reads_what_onnx_reads(exported: Exported) -> None:
    bundle = Bundle(exported.path)
    for name in (name for spec in bundle.manifest.entropy_variants for name in spec.graphs):
        path = bundle.graph_path(name)
        found = read_graph(path, bundle.weights_folder)
        wanted = onnx.load(path, load_external_data=False).graph
        onnx.external_data_helper.load_external_data_for_model(
            model := onnx.load(path, load_external_data=False), str(bundle.weights_folder)
        )
        assert list(found.inputs) == [value.name for value in wanted.input]
        for value in wanted.input:
            assert found.inputs[value.name] == value.type.tensor_type.shape.dim[1].dim_value
        assert list(found.outputs) == [value.name for value in wanted.output]
        assert set(found.constants) == {tensor.name for tensor in wanted.initializer}
        for tensor in model.graph.initializer:
            np.testing.assert_array_equal(found.constants[tensor.name], numpy_helper.to_array(tensor))
        for node, other in zip(found.nodes, wanted.node, strict=True):
            assert (node.kind, list(node.inputs), list(node.outputs)) == (other.op_type, other.input, other.output)
            for attribute in other.attribute:
                value = helper.get_attribute_value(attribute)
                expected = value.decode() if isinstance(value, bytes) else value
                assert node.attributes[attribute.name] == (tuple(value) if isinstance(value, list) else expected)


@pytest.fixture(scope="module")
def stage_file(exported: Exported) -> tuple[bytes, Path]:
    bundle = Bundle(exported.path)
    return bundle.graph_path(bundle.entropy(0).stages[-1].graph).read_bytes(), bundle.weights_folder


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damaged_files_are_refused_in_an_orderly_way(
    data: st.DataObject, stage_file: tuple[bytes, Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(stage_file[0])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.onnx"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    try:
        NativeEngine(entropy_graph(read_graph(path, stage_file[1])), 1)
    except (UnreadableError, NotIntegerError, ValueError, OSError):
        return


def conv_graph(**changes) -> ModelProto:
    """One integer layer, but for `changes` of its parts."""
    parts = {
        "scale": np.full((2, 1, 1, 1), 0.25, np.float32), "bias": np.array([0.5, -1.25], np.float32),
        "low": np.float32(-9), "high": np.float32(9), "attributes": {"pads": [1, 1, 1, 1]},
        "weights": np.ones((2, 3, 3, 3), np.int8), "rounding": "Floor", "channels": 3, "kind": "Conv",
        "to": TensorProto.FLOAT, "then": ("Identity", ["y"], 1, {}),
    } | changes  # fmt: skip
    kind, inputs, outputs, attributes = parts["then"]
    places = {name: np.full(2, value) for name, value in (("zeros", 0), ("ones", 1), ("twos", 2), ("minus", -1))}
    places |= {"ends": np.full(2, np.iinfo(np.int64).max), "axes": np.array([2, 3])}
    nodes = [
        helper.make_node("Cast", ["w"], ["real"], to=parts["to"]),
        helper.make_node("Mul", ["real", "scale"], ["scaled"]),
        helper.make_node(parts["kind"], ["x", "scaled", "bias"], ["sums"], **parts["attributes"]),
        helper.make_node(parts["rounding"], ["sums"], ["whole"]),
        helper.make_node("Clip", ["whole", "low", "high"], ["y"]),
        helper.make_node(kind, inputs, [f"out{k}" for k in range(outputs)], **attributes),
    ]
    constants = {"w": parts["weights"]} | places | {name: parts[name] for name in ("scale", "bias", "low", "high")}
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, parts["channels"], "h", "w"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize(
    "changes",
    [
        {"scale": np.full((2, 1, 1, 1), 0.3, np.float32)},
        {"scale": np.full((1, 3, 1, 1), 0.25, np.float32)},
        {"scale": np.full((2, 1, 1, 1), 4, np.float32)},
        {"bias": np.array([0.3, 0], np.float32)},
        {"low": np.float32(-(2**25))},
        {"high": np.float32(1.5)},
        {"weights": np.ones((2, 3, 3, 3), np.float32)},
        {"attributes": {"pads": [0, 0, 0, 0]}},
        {"attributes": {"pads": [0, 0, 0, 0], "strides": [2, 2]}},
        {"attributes": {"pads": [2, 2, 2, 2], "dilations": [2, 2]}},
        {"attributes": {"pads": [1, 1, 1, 1], "group": 3}},
        {"attributes": {"pads": [-1, 1, 3, 1]}},
        {"attributes": {"pads": [1, 1]}},
        {"attributes": {"pads": [1, 1, 1, 1], "auto_pad": "VALID"}},
        {"attributes": {"pads": [1, 1, 1, 1], "kernel_shape": [1, 1]}},
        {"attributes": {"pads": [1, 1, 1, 1], "rounds": 1}},
        {"to": TensorProto.FLOAT16},
        {"then": ("DepthToSpace", ["y"], 1, {"blocksize": 0, "mode": "CRD"})},
        {"then": ("DepthToSpace", ["y"], 1, {"blocksize": -1, "mode": "CRD"})},
        {"then": ("DepthToSpace", ["y"], 1, {"blocksize": 1, "mode": "CRD", "floor": 1})},
        {"then": ("Split", ["y"], 0, {"axis": 1})},
        {"then": ("Split", ["y"], 2, {"axis": 1, "num_outputs": 3})},
        {"then": ("Slice", ["y", "zeros", "ends", "axes", "zeros"], 1, {})},
        {"then": ("Slice", ["y", "ones", "ends", "axes", "minus"], 1, {})},
        {"then": ("Slice", ["y", "minus", "ends", "axes", "twos"], 1, {})},
        {"rounding": "Round"},
        {"channels": "any"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_is_no_integer_network_is_left_to_others(changes: dict, tmp_path: Path) -> None:
    assert network(conv_graph(), tmp_path).layers[0].shift.tolist() == [2, 2]
    with pytest.raises(NotIntegerError):
        network(conv_graph(**changes), tmp_path)


@pytest.mark.parametrize(
    "attributes",
    [
        {"strides": [0, 0]},
        {"strides": [1 << 30, 1 << 30], "output_padding": [(1 << 30) - 3, (1 << 30) - 3]},
        {"strides": [2, 2], "pads": [-1, 0, 2, 1], "output_padding": [0, 0]},
        {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1], "output_shape": [4, 4]},
    ],
    ids=lambda attributes: " ".join(attributes),
)
def test_hostile_transposed_convolutions_are_left_to_others(attributes: dict, tmp_path: Path) -> None:
    good = {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}
    weights = np.ones((3, 2, 3, 3), np.int8)
    parts = {"kind": "ConvTranspose", "weights": weights, "scale": np.full((1, 2, 1, 1), 0.25, np.float32)}
    assert network(conv_graph(attributes=good, **parts), tmp_path).layers[0].shuffle == 2
    with pytest.raises(NotIntegerError):
        network(conv_graph(attributes=attributes, **parts), tmp_path)


def test_operations_of_others_are_left_to_them(tmp_path: Path) -> None:
    model = conv_graph()
    model.graph.node[2].domain = "com.example"
    with pytest.raises(UnreadableError, match="an operation of com.example"):
        network(model, tmp_path)


def test_numbers_without_end_and_too_many_channels_are_not_read(tmp_path: Path) -> None:
    model = conv_graph()
    (tmp_path / "endless.onnx").write_bytes(b"\x08" + b"\xff" * 100 + b"\x01" + model.SerializeToString())
    with pytest.raises(UnreadableError, match="a number without end"):
        read_graph(tmp_path / "endless.onnx", tmp_path)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 10**8
    with pytest.raises(UnreadableError, match="has 100000000 channels"):
        network(model, tmp_path)


def test_hostile_graphs_run_on_the_library(exported: Exported, tmp_path: Path) -> None:
    """What is refused here must not stop the codec, which asks the other engine then."""
    path = Path(shutil.copytree(exported.path, tmp_path / "bundle"))
    graph = Bundle(path).entropy(0).stages[0].graph
    model = onnx.load(path / "graphs" / f"{graph}.onnx", load_external_data=False)
    for node in model.graph.node:
        if node.op_type == "Conv":
            node.attribute.append(helper.make_attribute("auto_pad", "VALID"))
    (path / "graphs" / f"{graph}.onnx").write_bytes(model.SerializeToString())
    assert native_engines(Bundle(path, verify_hashes=False), 0, 1) is None


def test_a_kernel_that_reaches_too_far_is_left_to_others(tmp_path: Path) -> None:
    wide = conv_graph(weights=np.ones((2, 3, 7, 7), np.int8), attributes={"pads": [3, 3, 3, 3]})
    with pytest.raises(ValueError, match="reaches too far"):
        engine(wide, tmp_path)


def test_wrong_inputs_are_errors(tmp_path: Path) -> None:
    made = engine(conv_graph(), tmp_path)
    with pytest.raises(EngineError, match="other channels"):
        made.run({"x": np.zeros((1, 4, 2, 2), np.float32)})
    with pytest.raises(EngineError, match="must be"):
        made.run({"x": np.zeros((3, 2, 2), np.float32)})
    with pytest.raises(KernelError, match="no kernel 'sse9' here: BASIC_DOTS_KERNEL may be "):
        engine(conv_graph(), tmp_path, kernel="sse9")


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_parts_of_arrays_are_read_where_they_lie(dtype: type) -> None:
    one = np.ones(3, np.float32)
    net = IntegerNet([(one, -9000 * one, 9000 * one, 1)], [], [([(0, 0, 3, 1, 0, 0)], 0.5)])
    whole = np.arange(2 * 5 * 7 * 9).reshape(2, 5, 7, 9).astype(dtype)
    part = whole[1:, 1:4, 2:6, 3:8]
    np.testing.assert_array_equal(net.run([part])[0], part.astype(np.float32) / 2)
    with pytest.raises(ValueError, match="rows of inputs must be contiguous"):
        net.run([whole[1:, 1:4, :, ::2]])


@settings(max_examples=80)
@given(
    st.integers(1, 3), st.integers(1, 9), st.integers(1, 14), st.integers(1, 37), st.integers(1, 3), st.integers(0, 99)
)
def test_a_tensor_in_parts_is_read_as_the_whole(
    groups: int, channels: int, height: int, width: int, step: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    count = groups * channels
    values = random.integers(-3000, 3000, (1, count, height, width)).astype(np.float32)
    scale = random.uniform(0.1, 2, count).astype(np.float32)
    bound = random.integers(1, 3000, count).astype(np.float32)
    net = IntegerNet([(scale, -bound, bound, 1)], [], [([(0, 0, count, 1, 0, 0)], 1.0)], int(random.integers(1, 4)))
    parts = [
        (np.ascontiguousarray(values[:, group : group + channels, row::step, column::step]), group, row, column)
        for group in range(0, count, channels)
        for row in range(step)
        for column in range(step)
    ]
    parts = [(part.astype(random.choice([np.int16, np.float32])), *place) for part, *place in parts]
    (found,) = net.run([Phases(parts, step, 0.25)])
    wanted = np.clip(np.floor(values * np.float32(0.25) * scale[:, None, None] + np.float32(0.5)),
                     -bound[:, None, None], bound[:, None, None])  # fmt: skip
    np.testing.assert_array_equal(found, wanted)


def test_parts_that_are_no_tensor_are_refused() -> None:
    one = np.ones(2, np.float32)
    net = IntegerNet([(one, -9 * one, 9 * one, 1)], [], [([(0, 0, 2, 1, 0, 0)], 1.0)])
    part, low = np.ones((1, 2, 2, 2), np.float32), np.ones((1, 2, 1, 2), np.float32)
    for parts, step, message in [
        ([(part, 0, 0, 0), (part, 0, 0, 1), (part, 0, 1, 0)], 2, "each of its values once"),
        ([(part, 0, 0, 0), (part, 0, 0, 1), (part, 0, 1, 0), (part, 0, 1, 0)], 2, "each of its values once"),
        ([(part, 0, 0, 0), (low, 0, 0, 1), (part, 0, 1, 0), (part, 0, 1, 1)], 2, "differ in size"),
        ([(part, 0, 0, 1)], 1, "lies beside it"),
        ([(part, 1 << 40, 0, 0)], 1, "too many channels"),
        ([(part, 0, 0, 0)], 9, "too large a step"),
        ([(part, 0, 0, 0)], 0, "too large a step, or none"),
        ([(part[:, :1], 0, 0, 0)], 1, "has other channels"),
        ([], 1, "has other channels"),
    ]:
        with pytest.raises(ValueError, match=message):
            net.run([Phases(parts, step, 1.0)])
    with pytest.raises(TypeError, match="float32 or int16"):
        net.run([Phases([(part.astype(np.float64), 0, 0, 0)], 1, 1.0)])


def test_planes_are_arrays_to_whoever_asks() -> None:
    one = np.ones(3, np.float32)
    net = IntegerNet([(one, -9 * one, 9 * one, 1)], [], [([(0, 0, 3, 1, 0, 0)], None)])
    values = np.arange(-9, 9, dtype=np.float32).reshape(1, 3, 2, 3)
    (plane,) = net.run([values])
    assert isinstance(plane, Plane) and plane.shape == (1, 3, 2, 3)
    assert np.asarray(plane).dtype == np.int16 and np.asarray(plane, np.float32).dtype == np.float32
    np.testing.assert_array_equal(np.asarray(plane), values)
    np.testing.assert_array_equal(net.run([values.astype(np.int16)])[0], values)


def test_a_plane_is_copied_only_where_it_may_be() -> None:
    one = np.ones(3, np.float32)
    [plane] = IntegerNet([(one, -9 * one, 9 * one, 1)], [], [([(0, 0, 3, 1, 0, 0)], None)]).run(
        [np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2)]
    )
    array = np.asarray(plane)
    assert np.shares_memory(np.asarray(plane, np.int16), array) and not np.shares_memory(np.array(plane), array)
    assert np.asarray(plane, np.float32).dtype == np.float32
    if np.lib.NumpyVersion(np.__version__) >= "2.0.0":
        assert np.shares_memory(np.array(plane, copy=False), array)
        with pytest.raises(ValueError, match="takes a copy"):
            np.array(plane, np.float32, copy=False)
    with pytest.raises(TypeError, match="incompatible"):
        pixels_of_patches(None, 1, 8)  # type: ignore[arg-type]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
def test_a_forked_process_computes_too(tmp_path: Path) -> None:
    """Threads stay with the parent: what its child runs, it runs alone, and it ends in an orderly way."""
    made = engine(conv_graph(), tmp_path, threads=3)
    x = np.ones((1, 3, 40, 40), np.float32)
    wanted = made.run({"x": x})["y"]
    child = os.fork()
    if child == 0:
        equal = np.array_equal(np.asarray(made.run({"x": x})["y"]), np.asarray(wanted))
        del made
        os._exit(0 if equal else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="nothing else tells of the processor here")
def test_there_are_the_kernels_that_the_processor_has() -> None:
    flags = set(re.findall(r"\w+", Path("/proc/cpuinfo").read_text().lower()))
    needed = {
        "amx": {"amx_tile", "amx_int8", "avx512vbmi", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni"},
        "avx512vnni": {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni", "avx2"},
        "avx512": {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx2"},
        "avxvnni": {"avx2", "bmi2", "avx_vnni"}, "avx2": {"avx2", "bmi1", "bmi2", "popcnt"},
        "neon": {"asimd"}, "scalar": set(),
    }  # fmt: skip
    if {"amx_tile", "amx_int8"} <= flags and ctypes.CDLL(None).syscall(158, 0x1023, 18) != 0:
        del needed["amx"]  # Linux, asked by arch_prctl as the kernel asks, does not let this process use tiles
    assert dots_kernels() == [name for name, these in needed.items() if these <= flags]


def test_kernels_are_there_with_a_handler_of_faults() -> None:
    """Linux refuses tiles to processes whose stack for signals has no room for them, which Python's has."""
    program = "from basic_runtime._native import dots_kernels; print(*dots_kernels())"
    command = [sys.executable, "-P", "-X", "faulthandler", "-c", program]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert found.stdout.split() == dots_kernels()


@pytest.mark.parametrize("name", [*dots_kernels(), "", "sse9"])
def test_the_environment_names_a_kernel(name: str, exported: Exported) -> None:
    program = Path(sys.executable).with_name("basic-run")
    result = subprocess.run(
        [program, "verify", "--bundle", exported.path, "--engine", "onnxruntime", "--json"],
        env={**os.environ, "BASIC_DOTS_KERNEL": name}, capture_output=True, text=True,
    )  # fmt: skip
    if name == "sse9":
        assert result.returncode == 1
        assert "no kernel 'sse9' here: BASIC_DOTS_KERNEL may be " in result.stderr and "Traceback" not in result.stderr
        return
    checks = json.loads(result.stdout)["checks"]
    assert result.returncode == 0 and all(check["exact"] for check in checks)
    assert {check["native"] for check in checks} == {f"native {name or dots_kernels()[0]}"}
