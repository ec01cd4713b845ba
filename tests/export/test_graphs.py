"""Canonical graphs, prefix slices and the shared weights file."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from basic_export.errors import ExportError
from basic_export.graphs import OPSET, canonical, initializers, serialise, slice_of
from basic_export.weights import ALIGNMENT, WeightStore


def small_model(weight: np.ndarray, trace: str = "", opset: int = OPSET) -> ModelProto:
    """A convolution and a product; `trace` goes wherever exporters leave theirs."""
    nodes = [
        helper.make_node("Conv", ["x", "weight"], [f"mid{trace}"], name=f"conv{trace}", doc_string=trace),
        helper.make_node("Mul", [f"mid{trace}", "factor"], ["y"], name=f"mul{trace}"),
    ]
    constants = [
        numpy_helper.from_array(weight, "weight"),
        numpy_helper.from_array(np.float32([2]), "factor"),
    ]
    sides = ["height", "width"]
    graph = helper.make_graph(
        nodes,
        f"graph{trace}",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, weight.shape[1], *sides])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, weight.shape[0], *sides])],
        constants,
        doc_string=trace,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], producer_version=trace)
    helper.set_model_props(model, {"source": trace})
    return model


def filters(outs: int, ins: int) -> np.ndarray:
    return np.random.default_rng(outs).normal(size=(outs, ins, 3, 3)).astype(np.float32)


def test_canonical_graphs_keep_no_trace_of_the_exporter() -> None:
    weight = filters(4, 3)
    models = [canonical(small_model(weight, trace), "g_a") for trace in ("", "/home/someone")]
    assert serialise(models[0]) == serialise(models[1])
    assert models[0].graph.name == "g_a"
    assert [value.name for value in models[0].graph.output] == ["y"]


def test_another_opset_is_refused() -> None:
    with pytest.raises(ExportError, match="opset"):
        canonical(small_model(filters(4, 3), opset=17), "g_a")


@pytest.mark.parametrize("shape", [(4, 3), (6, 3), (4, 8), (6, 8)])
def test_a_prefix_slice_computes_what_the_initialiser_did(shape: tuple[int, int]) -> None:
    full = filters(6, 8).astype(np.float16)
    weight = full[: shape[0], : shape[1]].astype(np.float32)
    model = small_model(weight)
    x = np.random.default_rng(1).normal(size=(1, shape[1], 9, 7)).astype(np.float32)
    wanted = ort.InferenceSession(serialise(model)).run(None, {"x": x})[0]
    slice_of(model, "weight", full)
    assert set(initializers(model)) >= {"weight.full", "factor"}
    np.testing.assert_array_equal(ort.InferenceSession(serialise(model)).run(None, {"x": x})[0], wanted)


def test_equal_tensors_are_stored_once_and_aligned() -> None:
    store = WeightStore()
    first, second = filters(8, 8), filters(9, 8)
    models = [store.externalise(small_model(weight)) for weight in (first, second, first)]
    offsets = [
        int(entry.value)
        for model in models
        for tensor in model.graph.initializer
        for entry in tensor.external_data
        if entry.key == "offset"
    ]
    assert offsets[0] == offsets[2] != offsets[1]
    assert all(offset % ALIGNMENT == 0 for offset in offsets)
    assert len(store) <= first.nbytes + second.nbytes + ALIGNMENT
    assert store.referenced_bytes == 2 * first.nbytes + second.nbytes
    assert store.data[offsets[1] :][: second.nbytes] == second.tobytes()


def test_a_graph_s_bytes_change_with_its_weights() -> None:
    def exported(weight: np.ndarray) -> bytes:
        return serialise(WeightStore().externalise(small_model(weight)))

    assert exported(filters(8, 8)) != exported(2 * filters(8, 8))
    assert exported(filters(8, 8)) == exported(filters(8, 8))


def test_small_tensors_stay_in_the_graph() -> None:
    model = WeightStore().externalise(small_model(filters(1, 1)))
    assert set(initializers(model)) == {"weight", "factor"}
