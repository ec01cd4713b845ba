"""Compiles the integer entropy path to ONNX: one graph for h_s and one dense graph per stage.

A naive decoder runs the whole context model once per stage. Here y is split in the phases of the grouping's tile, and
the graph of stage k computes only the units that belong to stage k: it reads the prior, the decoded slots of earlier
stages and the hidden units that earlier stages cached, so that all stages together do each multiplication once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, helper

from basic_export.entropy_graph import (
    EntropyGraph,
    Phase,
    as_numpy,
    input_name,
    prior_name,
    scale_of,
    unit_name,
)
from basic_export.hyper_graph import hyper_graph
from basic_runtime.latent import slot_name
from basic_train.grouping import Grouping
from basic_train.model.integer import IntegerEntropy, IntegerLayer, requantise
from basic_train.model.supernet import Y_STRIDE


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
    h_s, macs = hyper_graph(entropy)
    compiler = _StageCompiler(entropy)
    stages = tuple(compiler.compile(stage) for stage in range(grouping.stages))
    description = {
        "name": grouping.name,
        "tile": grouping.side,
        "channel_groups": grouping.groups,
        "labels": grouping.tile.tolist(),
    }
    return CompiledEntropy(entropy.width, description, h_s, macs, stages)


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
        (own + d - other) // tile: d + radius for d in range(-radius, radius + 1) if (own + d - other) % tile == 0
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
        graph = EntropyGraph(f"stage{stage}")
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
        macs = graph.macs / self.grouping.side**2 / Y_STRIDE**2
        return StageGraph(graph.model(), tuple(graph.inputs), outputs, tuple(order), macs)

    def _units(self, layer: IntegerLayer) -> int:
        """Output channels of a layer that belong to one channel group."""
        return layer.weight.shape[0] // self.grouping.groups

    def _label(self, group: int, phase: Phase) -> int:
        return int(self.grouping.tile[group, phase[0], phase[1]])

    def _round_previous(self, graph: EntropyGraph, stage: int) -> None:
        """Bring the slots of the stage before to the masked convolution's precision, once for all later stages."""
        if stage == 0:
            return
        per_group = len(self.context.y_shift) // self.grouping.groups
        for group, i, j in self.grouping.slots(stage - 1):
            own = slice(group * per_group, (group + 1) * per_group)
            shift, limit = as_numpy(self.context.y_shift)[own], self.context.y_max[own]
            value = graph.read(slot_name((group, i, j)), per_group)
            scale = graph.constant(np.exp2(-shift.astype(np.float32)).reshape(1, -1, 1, 1))
            half = graph.constant(np.array(0.5, np.float32))
            rounded = graph.node("Add", [graph.node("Mul", [value, scale]), half])
            value = graph.requantise(rounded, -limit, limit, leak=False)
            name = input_name(group, (i, j))
            graph.node("Identity", [value], name)
            if stage + 1 < self.grouping.stages:
                graph.outputs[name] = per_group

    def _phase(self, graph: EntropyGraph, stage: int, phase: Phase, groups: list[int]) -> tuple[str, str]:
        """All units of some channel groups at one phase; returns the names of their means and scales."""
        self._masked_convolution(graph, stage, phase, groups)
        prior = graph.read(prior_name(phase), self.prior_channels)
        visible = [g for g in range(self.grouping.groups) if self._label(g, phase) <= stage]
        hidden = self._merger(graph, stage, phase, groups, visible, "context", self.context.merge_context, prior)
        self._cache(graph, "hidden1", stage, phase, groups, hidden, self._units(self.context.merge_context))
        hidden = self._merger(graph, stage, phase, groups, visible, "hidden1", self.context.merge_hidden)
        self._cache(graph, "hidden2", stage, phase, groups, hidden, self._units(self.context.merge_hidden))
        return self._outputs(graph, stage, phase, groups, visible)

    def _later_readers(self, stage: int, phase: Phase) -> bool:
        return any(self._label(g, phase) > stage for g in range(self.grouping.groups))

    def _cache(
        self, graph: EntropyGraph, kind: str, stage: int, phase: Phase, groups: list[int], value: str, units: int
    ) -> None:
        """Name units, and make them an output when a later stage reads them at this phase."""
        name = unit_name(kind, stage, phase)
        graph.node("Identity", [value], name)
        if self._later_readers(stage, phase):
            graph.outputs[name] = units * len(groups)

    def _rows(self, layer: IntegerLayer, groups: list[int]) -> np.ndarray:
        units = self._units(layer)
        return np.concatenate([np.arange(g * units, (g + 1) * units) for g in groups])

    def _masked_convolution(self, graph: EntropyGraph, stage: int, phase: Phase, groups: list[int]) -> None:
        """The context units of some groups at one phase, from every slot decoded before this stage."""
        layer, tile = self.context.context, self.grouping.side
        rows = self._rows(layer, groups)
        scale = scale_of(layer)[rows]
        bias = (as_numpy(layer.bias)[rows] * scale).astype(np.float32)
        sums = []
        for i in range(tile):
            for j in range(tile):
                visible = [g for g in range(self.grouping.groups) if self._label(g, (i, j)) < stage]
                conv = self._phase_convolution(graph, rows, scale, phase, (i, j), visible, None if sums else bias)
                if conv:
                    sums.append(conv)
        if not sums:
            self.constant_context[stage, phase] = as_numpy(
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
        graph: EntropyGraph,
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
        weight = as_numpy(self.context.context.weight)[np.ix_(rows, columns)]
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

    def _input(self, graph: EntropyGraph, group: int, phase: Phase) -> str:
        name = input_name(group, phase)
        if not any(name in node.output for node in graph.graph.node):
            graph.read(name, len(self.context.y_shift) // self.grouping.groups)
        return name

    def _merger(
        self,
        graph: EntropyGraph,
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
        graph: EntropyGraph,
        stage: int,
        phase: Phase,
        rows: np.ndarray,
        visible: list[int],
        kind: str,
        layer: IntegerLayer,
        prior: str | None,
    ) -> str:
        """Scaled sums of a 1x1 layer; units that are constants go into the bias."""
        scale, bias = scale_of(layer)[rows], as_numpy(layer.bias)[rows].astype(np.float64)
        units = layer.weight.shape[1] // self.grouping.groups
        weights, sources = [], []
        for source in sorted({self._label(g, phase) for g in visible}):
            members = [g for g in visible if self._label(g, phase) == source]
            columns = np.concatenate([np.arange(g * units, (g + 1) * units) for g in members])
            part = as_numpy(layer.weight)[np.ix_(rows, columns)]
            if kind == "context" and (source, phase) in self.constant_context:
                bias += part[:, :, 0, 0].astype(np.float64) @ self.constant_context[source, phase]
                continue
            weights.append(part)
            name = unit_name(kind, source, phase)
            sources.append(name if source == stage else graph.read(name, units * len(members)))
        if prior is not None:
            bias += as_numpy(self.context.phase_bias)[phase][rows]
            weights.append(as_numpy(self.context.merge_prior)[rows])
            sources.append(prior)
        weight = np.concatenate(weights, 1)
        graph.macs += weight.size
        names = [graph.concat(sources), graph.weight(weight, scale[:, None, None, None])]
        return graph.node("Conv", [*names, graph.constant((bias * scale).astype(np.float32))])

    def _outputs(
        self, graph: EntropyGraph, stage: int, phase: Phase, groups: list[int], visible: list[int]
    ) -> tuple[str, str]:
        """Means and scales of some groups at one phase, groups one after the other in each."""
        layer = self.context.merge_out
        rows = self._rows(layer, groups)
        ordered = np.concatenate([rows[0::2], rows[1::2]])
        sums = self._linear(graph, stage, phase, ordered, visible, "hidden2", layer, None)
        value = graph.requantise(sums, layer.low[ordered], layer.high[ordered], layer.leak)
        mean, scale = f"mean.{phase[0]}{phase[1]}", f"scale.{phase[0]}{phase[1]}"
        graph.graph.node.append(helper.make_node("Split", [value], [mean, scale], axis=1, num_outputs=2))
        return mean, scale
