"""Cuts a graph of the pixel path where its resolution changes, into parts for the tiles of large pictures.

A tile needs a margin as wide as its graph reaches, and computes it again for its neighbour: with all 11 layers of a
g_s in one graph that is 128 pixels on each side. Of three parts in a row, each with tiles of its own, none reaches
further than 48, and the one at the highest resolution, where tensors are largest, 16 at most.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from basic_export.graphs import attributes, canonical, channels_of, model_of
from basic_export.reach import fields, reach

_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Part:
    """One part: its graph, how far it reaches in rows of its coarsest input, and the bytes per pixel of the picture
    of the largest tensor in it."""

    model: ModelProto
    reach: int
    bytes_per_pixel: float


@dataclass(frozen=True)
class Parts:
    """The parts of a graph in their order, and the rows of the picture per row of each tensor between them."""

    parts: tuple[Part, ...]
    strides: dict[str, int]


def split(model: ModelProto, strides: dict[str, int]) -> Parts | None:
    """The parts of a graph, or None if there is no place to cut it. strides: picture rows per row of each input."""
    return _Splitter(model, strides).split()


class _Splitter:
    """A graph and what is known of its tensors. Spatial tensors have rows: those of weights and gains do not."""

    def __init__(self, model: ModelProto, strides: dict[str, int]) -> None:
        self.model, self.nodes = model, list(model.graph.node)
        (stride,) = strides.values()
        self.strides = {name: field.jump * stride for name, field in fields(model, 0).items()}
        self.spatial = {i for i, node in enumerate(self.nodes) if node.output[0] in self.strides}
        self.maker = {name: i for i, node in enumerate(self.nodes) for name in node.output}
        self.channels = {name: count for name, count in channels_of(model).items() if name in self.strides}
        self.inputs = {value.name for value in model.graph.input}

    def split(self) -> Parts | None:
        """See the function of this name."""
        bounds: list[set[int]] = [set()]
        for prefix in sorted((self._prefix(name) for name in self._places()), key=len):
            rest = self.spatial - prefix
            if bounds[-1] <= prefix and self._look(prefix - bounds[-1]) and self._look(rest):
                bounds.append(prefix)
        if len(bounds) == 1:
            return None
        crossing = sorted({name for prefix in bounds for name in self._crossing(prefix)}, key=self.maker.get)
        names = {name: f"part.{number}" for number, name in enumerate(crossing)}
        parts = [self._part(high - low, names) for low, high in zip(bounds, [*bounds[1:], self.spatial], strict=True)]
        return Parts(tuple(parts), {names[name]: int(self.strides[name]) for name in crossing})

    def _places(self) -> Iterator[str]:
        """Tensors behind which to cut: where the resolution falls, and before the layer that makes it rise."""
        for i in sorted(self.spatial):
            node = self.nodes[i]
            before, behind = node.input[0], node.output[0]
            if self.strides[behind] > self.strides[before]:
                yield behind
            elif self.strides[behind] < self.strides[before]:
                layer = self.nodes[self.maker[before]] if before in self.maker else node
                yield layer.input[0] if layer.op_type == "Conv" else before

    def _prefix(self, name: str) -> set[int]:
        """The nodes before a cut behind a tensor: those that it needs, or all that do not need it, whichever leaves
        less to hand over."""
        needed, stack = set(), [name]
        while stack:
            i = self.maker.get(stack.pop())
            if i in self.spatial and i not in needed:
                needed.add(i)
                stack += self.nodes[i].input
        later: set[str] = {name}
        for node in self.nodes:
            if later.intersection(node.input):
                later.update(node.output)
        free = {i for i in self.spatial if not later.intersection(self.nodes[i].output)} | needed
        return min(needed, free, key=self._cost)

    def _cost(self, prefix: set[int]) -> float:
        """Bytes per pixel of the picture that are written before a cut and read behind it, or read on both sides."""
        twice = self.inputs & self._read(prefix) & self._read(self.spatial - prefix)
        return sum(map(self._bytes, twice | set(self._crossing(prefix))))

    def _bytes(self, name: str) -> float:
        return _FLOAT_BYTES * self.channels[name] / float(self.strides[name]) ** 2 if name in self.strides else 0.0

    def _crossing(self, prefix: set[int]) -> set[str]:
        written = {name for i in prefix for name in self.nodes[i].output}
        return written & self._read(self.spatial - prefix)

    def _read(self, nodes: set[int]) -> set[str]:
        return {name for i in nodes for name in self.nodes[i].input}

    def _look(self, nodes: set[int]) -> bool:
        """Whether one of the nodes looks beyond its own place."""
        return any(self._looks(self.nodes[i]) for i in nodes)

    @staticmethod
    def _looks(node: NodeProto) -> bool:
        given = attributes(node)
        kernel, strides = given.get("kernel_shape", [1]), given.get("strides", [1] * 2)
        return node.op_type in ("Conv", "ConvTranspose") and any(k > s for k, s in zip(kernel, strides, strict=False))

    def _part(self, members: set[int], names: dict[str, str]) -> Part:
        """The graph of some spatial nodes and of the weights and gains that they use; names: of tensors between
        parts."""
        chosen, stack = set(members), list(members)
        while stack:
            makers = {self.maker[name] for name in self.nodes[stack.pop()].input if name in self.maker}
            fresh = makers - self.spatial - chosen
            chosen |= fresh
            stack += fresh
        nodes = [_renamed(self.nodes[i], names) for i in sorted(chosen)]
        written = {name for node in nodes for name in node.output}
        read = {name for node in nodes for name in node.input}
        graph = self.model.graph
        inputs = [value for value in graph.input if value.name in read]
        inputs += [self._value(old, new) for old, new in names.items() if new in read - written]
        outputs = [value for value in graph.output if value.name in written]
        outputs += [self._value(old, new) for old, new in names.items() if new in written]
        weights = [tensor for tensor in graph.initializer if tensor.name in read]
        model = canonical(model_of(helper.make_graph(nodes, graph.name, inputs, outputs, weights)), graph.name)
        old = {new: name for name, new in names.items()}
        strides = {
            value.name: int(self.strides[old.get(value.name, value.name)])
            for value in inputs
            if old.get(value.name, value.name) in self.strides
        }
        tensors = {old.get(name, name) for name in read | written}
        return Part(model, reach(model, strides), max(map(self._bytes, tensors)))

    def _value(self, name: str, new: str) -> ValueInfoProto:
        shape = [1, self.channels[name], f"{new}_height", f"{new}_width"]
        return helper.make_tensor_value_info(new, TensorProto.FLOAT, shape)


def _renamed(node: NodeProto, names: dict[str, str]) -> NodeProto:
    copy = NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = [names.get(name, name) for name in node.input]
    copy.output[:] = [names.get(name, name) for name in node.output]
    return copy
