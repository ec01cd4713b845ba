"""Compiles the integer entropy path to ONNX: one graph for h_s and one dense graph per stage.

A naive decoder runs the whole context model once per stage. Here y is split in the phases of the grouping's tile, and
the graph of stage k computes only the units that belong to stage k: it reads the prior, the decoded slots of earlier
stages and the hidden units that earlier stages cached, so that all stages together do each multiplication once. Every
weight is stored as a small integer and scaled by a power of two when an engine loads it, which float32 does exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper
from torch import Tensor

from basic_runtime.latent import slot_name
from basic_train.grouping import Grouping
from basic_train.model.integer import LEAK_BITS, IntegerEntropy, IntegerLayer, requantise

OPSET = 20
IR_VERSION = 10

Phase = tuple[int, int]


@dataclass(frozen=True)
class StageGraph:
    """One stage: its graph, the names of its inputs and outputs in order, the slots it decodes, its cost.

    macs_per_pixel counts multiply-accumulates per picture pixel (a latent position is 256 pixels).
    """

    model: ModelProto
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    slots: tuple[tuple[int, int, int], ...]
    macs_per_pixel: float


@dataclass(frozen=True)
class CompiledEntropy:
    """The graphs of one entropy variant. grouping: as in the bundle's manifest."""

    width: int
    grouping: dict[str, object]
    h_s: ModelProto
    h_s_macs_per_pixel: float
    stages: tuple[StageGraph, ...]

    @property
    def macs_per_pixel(self) -> float:
        """Multiply-accumulates per pixel of h_s and all stages."""
        return self.h_s_macs_per_pixel + sum(stage.macs_per_pixel for stage in self.stages)


def compile_entropy(entropy: IntegerEntropy) -> CompiledEntropy:
    """ONNX graphs of an integer entropy path, weights inline."""
    grouping = entropy.grouping
    h_s, macs = _hyper_graph(entropy)
    compiler = _StageCompiler(entropy)
    stages = tuple(compiler.compile(stage) for stage in range(grouping.stages))
    description = {
        "name": grouping.name,
        "tile": grouping.side,
        "channel_groups": grouping.groups,
        "labels": grouping.tile.tolist(),
    }
    return CompiledEntropy(entropy.width, description, h_s, macs, stages)


# --- names -----------------------------------------------------------------------------------------------------------


def prior_name(phase: Phase) -> str:
    return f"prior.{phase[0]}{phase[1]}"


def unit_name(kind: str, stage: int, phase: Phase) -> str:
    """Cached hidden units of a stage at a phase: kind is "context", "hidden1" or "hidden2"."""
    return f"{kind}.{stage}.{phase[0]}{phase[1]}"


def input_name(group: int, phase: Phase) -> str:
    """A decoded slot as the masked convolution reads it: rounded to the context's precision and clamped."""
    return f"u.{group}.{phase[0]}{phase[1]}"


# --- a graph under construction --------------------------------------------------------------------------------------


@dataclass
class _Graph:
    """Collects nodes, integer weights and the names of inputs and outputs. Channels are known per tensor."""

    name: str
    nodes: list = field(default_factory=list)
    constants: list = field(default_factory=list)
    inputs: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, int] = field(default_factory=dict)
    macs: float = 0.0
    serial: int = 0

    def node(self, kind: str, inputs: list[str], output: str | None = None, **attributes: object) -> str:
        self.serial += 1
        output = output or f"t{self.serial}"
        self.nodes.append(
            helper.make_node(kind, inputs, [output], name=f"{kind}_{self.serial}", **attributes)
        )
        return output

    def constant(self, values: np.ndarray) -> str:
        self.serial += 1
        name = f"c{self.serial}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def read(self, name: str, channels: int) -> str:
        self.inputs[name] = channels
        return name

    def write(self, name: str, value: str, channels: int) -> None:
        if value != name:
            self.node("Identity", [value], name)
        self.outputs[name] = channels

    def weight(self, integers: np.ndarray, scale: np.ndarray) -> str:
        """Integer weights times a power of two per output channel, as constants that engines fold at load."""
        small = np.abs(integers).max(initial=0) <= 127
        stored = self.constant(integers.astype(np.int8 if small else np.int16))
        real = self.node("Cast", [stored], to=TensorProto.FLOAT)
        return self.node("Mul", [real, self.constant(scale.astype(np.float32))])

    def concat(self, names: list[str]) -> str:
        return names[0] if len(names) == 1 else self.node("Concat", names, axis=1)

    def total(self, names: list[str]) -> str:
        value = names[0]
        for name in names[1:]:
            value = self.node("Add", [value, name])
        return value

    def requantise(self, sums: str, low: Tensor, high: Tensor, leak: bool) -> str:
        """clamp(leak(floor(sums)), low, high), bounds (C,); sums are already scaled to output units."""
        value = self.node("Floor", [sums])
        if leak:
            value = self.node("LeakyRelu", [value], alpha=2.0**-LEAK_BITS)
            half = self.constant(np.array(0.5, np.float32))
            value = self.node("Floor", [self.node("Add", [value, half])])
        return self.clamp(value, _numpy(low), _numpy(high))

    def clamp(self, value: str, low: np.ndarray, high: np.ndarray) -> str:
        if np.ptp(low) == np.ptp(high) == 0:
            bounds = [self.constant(np.array(v[0], np.float32)) for v in (low, high)]
            return self.node("Clip", [value, *bounds])
        below, above = (self.constant(v.astype(np.float32).reshape(1, -1, 1, 1)) for v in (low, high))
        return self.node("Max", [self.node("Min", [value, above]), below])

    def model(self) -> ModelProto:
        graph = helper.make_graph(
            self.nodes,
            self.name,
            [_value(name, channels) for name, channels in self.inputs.items()],
            [_value(name, channels) for name, channels in self.outputs.items()],
            self.constants,
        )
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(
            graph, producer_name="basic-export", opset_imports=opsets, ir_version=IR_VERSION
        )


def _value(name: str, channels: int):  # noqa: ANN202 (ValueInfoProto is not exported by onnx's stubs)
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, "height", "width"])


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().numpy()


def _scale(layer: IntegerLayer) -> np.ndarray:
    return np.exp2(-_numpy(layer.shift).astype(np.float64))


# --- h_s -------------------------------------------------------------------------------------------------------------


def _hyper_graph(entropy: IntegerEntropy) -> tuple[ModelProto, float]:
    graph = _Graph("h_s")
    channels = entropy.layers[0].weight.shape[0 if entropy.layers[0].transposed else 1]
    value, side = graph.read("z", channels), 1.0 / 64
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


def _hyper_layer(graph: _Graph, layer: IntegerLayer, value: str, side: float) -> tuple[str, float]:
    weight, scale = _numpy(layer.weight), _scale(layer)
    shaped = scale[None, :, None, None] if layer.transposed else scale[:, None, None, None]
    names = [
        value,
        graph.weight(weight, shaped),
        graph.constant((_numpy(layer.bias) * scale).astype(np.float32)),
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


def _phase_slice(graph: _Graph, value: str, phase: Phase, tile: int) -> str:
    if tile == 1:
        return value
    ends = np.array([np.iinfo(np.int64).max] * 2)
    parts = [np.array(phase), ends, np.array([2, 3]), np.array([tile, tile])]
    return graph.node("Slice", [value, *(graph.constant(p.astype(np.int64)) for p in parts)])


# --- stages ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Taps:
    """The taps of the k x k kernel that fall on one phase of the tile, along one axis, as a small dense kernel.

    taps: for each position of the small kernel the index into k, or -1 for none; before, after: padding.
    """

    taps: tuple[int, ...]
    before: int
    after: int


def axis_taps(own: int, other: int, tile: int, kernel: int) -> _Taps | None:
    """Taps from positions of phase `own` to positions of phase `other`, or None when the kernel reaches none."""
    radius = kernel // 2
    offsets = {
        (own + d - other) // tile: d + radius
        for d in range(-radius, radius + 1)
        if (own + d - other) % tile == 0
    }
    if not offsets:
        return None
    first, last = min(0, *offsets), max(0, *offsets)
    return _Taps(tuple(offsets.get(o, -1) for o in range(first, last + 1)), -first, last)


class _StageCompiler:
    """Compiles stage after stage; remembers which hidden units are constants (those that see no element of y)."""

    def __init__(self, entropy: IntegerEntropy) -> None:
        self.entropy, self.context = entropy, entropy.context
        self.grouping: Grouping = entropy.grouping
        self.constant_context: dict[tuple[int, Phase], np.ndarray] = {}
        self.prior_channels = self.context.merge_prior.shape[1]

    def compile(self, stage: int) -> StageGraph:
        graph = _Graph(f"stage{stage}")
        slots = self.grouping.slots(stage)
        self._round_previous(graph, stage)
        means, scales, order = [], [], []
        for phase in sorted({(i, j) for _, i, j in slots}):
            groups = [g for g, i, j in slots if (i, j) == phase]
            mean, scale = self._phase(graph, stage, phase, groups)
            means.append(mean)
            scales.append(scale)
            order += [(g, *phase) for g in groups]
        per_slot = self._units(self.context.merge_out) // 2
        graph.write("mean", graph.concat(means), per_slot * len(slots))
        graph.write("scale", graph.concat(scales), per_slot * len(slots))
        outputs = ("mean", "scale", *(n for n in graph.outputs if n not in ("mean", "scale")))
        graph.outputs = {name: graph.outputs[name] for name in outputs}
        macs = graph.macs / self.grouping.side**2 / 256
        return StageGraph(graph.model(), tuple(graph.inputs), outputs, tuple(order), macs)

    def _units(self, layer: IntegerLayer) -> int:
        """Output channels of a layer that belong to one channel group."""
        return layer.weight.shape[0] // self.grouping.groups

    def _label(self, group: int, phase: Phase) -> int:
        return int(self.grouping.tile[group, phase[0], phase[1]])

    def _round_previous(self, graph: _Graph, stage: int) -> None:
        """Bring the slots of the stage before to the masked convolution's precision, once for all later stages."""
        if stage == 0:
            return
        per_group = len(self.context.y_shift) // self.grouping.groups
        for group, i, j in self.grouping.slots(stage - 1):
            own = slice(group * per_group, (group + 1) * per_group)
            shift, limit = _numpy(self.context.y_shift)[own], self.context.y_max[own]
            value = graph.read(slot_name((group, i, j)), per_group)
            scale = graph.constant(np.exp2(-shift.astype(np.float32)).reshape(1, -1, 1, 1))
            half = graph.constant(np.array(0.5, np.float32))
            rounded = graph.node("Add", [graph.node("Mul", [value, scale]), half])
            value = graph.requantise(rounded, -limit, limit, leak=False)
            name = input_name(group, (i, j))
            graph.node("Identity", [value], name)
            if stage + 1 < self.grouping.stages:
                graph.outputs[name] = per_group

    def _phase(
        self, graph: _Graph, stage: int, phase: Phase, groups: list[int]
    ) -> dict[int, tuple[str, str]]:
        """All units of some channel groups at one phase; returns the mean and scale tensors of each group."""
        self._masked_convolution(graph, stage, phase, groups)
        prior = graph.read(prior_name(phase), self.prior_channels)
        visible = [g for g in range(self.grouping.groups) if self._label(g, phase) <= stage]
        hidden = self._merger(
            graph, stage, phase, groups, visible, "context", self.context.merge_context, prior
        )
        self._cache(graph, "hidden1", stage, phase, groups, hidden, self._units(self.context.merge_context))
        hidden = self._merger(graph, stage, phase, groups, visible, "hidden1", self.context.merge_hidden)
        self._cache(graph, "hidden2", stage, phase, groups, hidden, self._units(self.context.merge_hidden))
        return self._outputs(graph, stage, phase, groups, visible)

    def _later_readers(self, stage: int, phase: Phase) -> bool:
        return any(self._label(g, phase) > stage for g in range(self.grouping.groups))

    def _cache(
        self, graph: _Graph, kind: str, stage: int, phase: Phase, groups: list[int], value: str, units: int
    ) -> None:
        """Name units, and make them an output when a later stage reads them at this phase."""
        name = unit_name(kind, stage, phase)
        graph.node("Identity", [value], name)
        if self._later_readers(stage, phase):
            graph.outputs[name] = units * len(groups)

    def _rows(self, layer: IntegerLayer, groups: list[int]) -> np.ndarray:
        units = self._units(layer)
        return np.concatenate([np.arange(g * units, (g + 1) * units) for g in groups])

    def _masked_convolution(self, graph: _Graph, stage: int, phase: Phase, groups: list[int]) -> None:
        """The context units of some groups at one phase, from every slot decoded before this stage."""
        layer, tile = self.context.context, self.grouping.side
        rows = self._rows(layer, groups)
        scale = _scale(layer)[rows]
        bias = (_numpy(layer.bias)[rows] * scale).astype(np.float32)
        sums = []
        for i in range(tile):
            for j in range(tile):
                visible = [g for g in range(self.grouping.groups) if self._label(g, (i, j)) < stage]
                conv = self._phase_convolution(
                    graph, rows, scale, phase, (i, j), visible, None if sums else bias
                )
                if conv:
                    sums.append(conv)
        if not sums:
            self.constant_context[stage, phase] = _numpy(
                requantise(
                    layer.bias[None, rows, None, None],
                    layer.shift[rows],
                    layer.low[rows],
                    layer.high[rows],
                    False,
                )
            ).reshape(-1)
            return
        value = graph.requantise(graph.total(sums), layer.low[rows], layer.high[rows], leak=False)
        self._cache(graph, "context", stage, phase, groups, value, self._units(layer))

    def _phase_convolution(
        self,
        graph: _Graph,
        rows: np.ndarray,
        scale: np.ndarray,
        own: Phase,
        other: Phase,
        visible: list[int],
        bias: np.ndarray | None,
    ) -> str | None:
        kernel, tile = self.context.kernel, self.grouping.side
        vertical = axis_taps(own[0], other[0], tile, kernel)
        horizontal = axis_taps(own[1], other[1], tile, kernel)
        if not visible or vertical is None or horizontal is None:
            return None
        per_group = len(self.context.y_shift) // self.grouping.groups
        columns = np.concatenate([np.arange(g * per_group, (g + 1) * per_group) for g in visible])
        weight = _numpy(self.context.context.weight)[np.ix_(rows, columns)]
        padded = np.pad(weight, [(0, 0), (0, 0), (0, 1), (0, 1)])  # tap -1 reads the zero behind
        small = padded[:, :, list(vertical.taps)][:, :, :, list(horizontal.taps)]
        taps = sum(t >= 0 for t in vertical.taps) * sum(t >= 0 for t in horizontal.taps)
        graph.macs += len(rows) * len(columns) * taps
        source = graph.concat([self._input(graph, g, other) for g in visible])
        names = [source, graph.weight(small, scale[:, None, None, None])]
        if bias is not None:
            names.append(graph.constant(bias))
        pads = [vertical.before, horizontal.before, vertical.after, horizontal.after]
        return graph.node("Conv", names, pads=pads)

    def _input(self, graph: _Graph, group: int, phase: Phase) -> str:
        name = input_name(group, phase)
        if not any(name in node.output for node in graph.nodes):
            graph.read(name, len(self.context.y_shift) // self.grouping.groups)
        return name

    def _merger(
        self,
        graph: _Graph,
        stage: int,
        phase: Phase,
        groups: list[int],
        visible: list[int],
        kind: str,
        layer: IntegerLayer,
        prior: str | None = None,
    ) -> str:
        """A masked 1x1 layer for some groups, reading units `kind` of all visible groups (and the prior)."""
        rows = self._rows(layer, groups)
        sums = self._linear(graph, stage, phase, rows, visible, kind, layer, prior)
        return graph.requantise(sums, layer.low[rows], layer.high[rows], layer.leak)

    def _linear(
        self,
        graph: _Graph,
        stage: int,
        phase: Phase,
        rows: np.ndarray,
        visible: list[int],
        kind: str,
        layer: IntegerLayer,
        prior: str | None,
    ) -> str:
        """Scaled sums of a 1x1 layer; units that are constants go into the bias."""
        scale, bias = _scale(layer)[rows], _numpy(layer.bias)[rows].astype(np.float64)
        units = layer.weight.shape[1] // self.grouping.groups
        weights, sources = [], []
        for source in sorted({self._label(g, phase) for g in visible}):
            members = [g for g in visible if self._label(g, phase) == source]
            columns = np.concatenate([np.arange(g * units, (g + 1) * units) for g in members])
            part = _numpy(layer.weight)[np.ix_(rows, columns)]
            if kind == "context" and (source, phase) in self.constant_context:
                bias += part[:, :, 0, 0].astype(np.float64) @ self.constant_context[source, phase]
                continue
            weights.append(part)
            name = unit_name(kind, source, phase)
            sources.append(name if source == stage else graph.read(name, units * len(members)))
        if prior is not None:
            bias += _numpy(self.context.phase_bias)[phase][rows]
            weights.append(_numpy(self.context.merge_prior)[rows])
            sources.append(prior)
        weight = np.concatenate(weights, 1)
        graph.macs += weight.size
        names = [graph.concat(sources), graph.weight(weight, scale[:, None, None, None])]
        return graph.node("Conv", [*names, graph.constant((bias * scale).astype(np.float32))])

    def _outputs(
        self, graph: _Graph, stage: int, phase: Phase, groups: list[int], visible: list[int]
    ) -> tuple[str, str]:
        """Means and scales of some groups at one phase, groups one after the other in each."""
        layer = self.context.merge_out
        rows = self._rows(layer, groups)
        ordered = np.concatenate([rows[0::2], rows[1::2]])
        sums = self._linear(graph, stage, phase, ordered, visible, "hidden2", layer, None)
        value = graph.requantise(sums, layer.low[ordered], layer.high[ordered], layer.leak)
        mean, scale = f"mean.{phase[0]}{phase[1]}", f"scale.{phase[0]}{phase[1]}"
        graph.nodes.append(helper.make_node("Split", [value], [mean, scale], axis=1, num_outputs=2))
        return mean, scale
