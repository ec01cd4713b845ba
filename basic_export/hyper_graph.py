"""Compiles the h_s of an integer entropy path to ONNX: z to the prior of y, an output for each phase of the tile."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto

from basic_export.entropy_graph import EntropyGraph, Phase, as_numpy, prior_name, scale_of
from basic_train.model.integer import IntegerEntropy, IntegerLayer
from basic_train.model.supernet import Z_STRIDE


def hyper_graph(entropy: IntegerEntropy) -> tuple[ModelProto, float]:
    """The graph, and its multiply-accumulates per pixel of the picture."""
    graph = EntropyGraph("h_s")
    channels = entropy.layers[0].weight.shape[0 if entropy.layers[0].transposed else 1]
    value, side = graph.read("z", channels), 1.0 / Z_STRIDE
    for layer in entropy.layers:
        value, side = _hyper_layer(graph, layer, value, side)
    tile = entropy.grouping.side
    priors = _out_channels(entropy.layers[-1]) // entropy.layers[-1].shuffle ** 2
    for i in range(tile):
        for j in range(tile):
            graph.write(prior_name((i, j)), _phase_slice(graph, value, (i, j), tile), priors)
    return graph.model(), graph.macs


def _out_channels(layer: IntegerLayer) -> int:
    return layer.weight.shape[1 if layer.transposed else 0]


def _hyper_layer(graph: EntropyGraph, layer: IntegerLayer, value: str, side: float) -> tuple[str, float]:
    weight, scale = as_numpy(layer.weight), scale_of(layer)
    shaped = scale[None, :, None, None] if layer.transposed else scale[:, None, None, None]
    names = [
        value,
        graph.weight(weight, shaped),
        graph.constant((as_numpy(layer.bias) * scale).astype(np.float32)),
    ]
    pads, strides = [layer.padding] * 4, [layer.stride] * 2
    if layer.transposed:
        extra = [layer.output_padding] * 2
        sums = graph.node("ConvTranspose", names, pads=pads, strides=strides, output_padding=extra)
        graph.macs += weight.size * side**2
        side *= layer.stride
    else:
        sums = graph.node("Conv", names, pads=pads, strides=strides)
        side /= layer.stride
        graph.macs += weight.size * side**2
    value = graph.requantise(sums, layer.low, layer.high, layer.leak)
    if layer.shuffle > 1:
        value = graph.node("DepthToSpace", [value], blocksize=layer.shuffle, mode="CRD")
    return value, side * layer.shuffle


def _phase_slice(graph: EntropyGraph, value: str, phase: Phase, tile: int) -> str:
    if tile == 1:
        return value
    ends = np.array([np.iinfo(np.int64).max] * 2)
    parts = [np.array(phase), ends, np.array([2, 3]), np.array([tile, tile])]
    return graph.node("Slice", [value, *(graph.constant(p.astype(np.int64)) for p in parts)])
