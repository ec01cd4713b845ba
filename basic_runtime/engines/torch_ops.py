"""The ONNX operators that our graphs use, as functions `operator(attributes, *inputs)` on torch tensors.

Semantics follow https://onnx.ai/onnx/operators (opset 20). Missing optional inputs are None.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnx
import torch
import torch.nn.functional as F
from torch import Tensor

from basic_runtime.errors import EngineError

Attributes = dict[str, Any]

_CAST_TO = {
    onnx.TensorProto.FLOAT: torch.float32,
    onnx.TensorProto.FLOAT16: torch.float16,
    onnx.TensorProto.DOUBLE: torch.float64,
    onnx.TensorProto.UINT8: torch.uint8,
    onnx.TensorProto.INT8: torch.int8,
    onnx.TensorProto.INT16: torch.int16,
    onnx.TensorProto.INT32: torch.int32,
    onnx.TensorProto.INT64: torch.int64,
    onnx.TensorProto.BOOL: torch.bool,
}


def attributes(node: Any) -> Attributes:
    """The attributes of an ONNX node as Python values (tensors as torch tensors, strings as str)."""
    found: Attributes = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            value = value.decode()
        elif isinstance(value, onnx.TensorProto):
            value = torch.from_numpy(onnx.numpy_helper.to_array(value).copy())
        found[attribute.name] = value
    return found


def _ints(value: Tensor) -> list[int]:
    return [int(item) for item in value.tolist()]


def _split_pads(pads: Sequence[int]) -> tuple[tuple[int, int] | None, list[int]]:
    """Pads (top, left, bottom, right) as the symmetric pair torch takes, or as the list F.pad takes."""
    top, left, bottom, right = pads
    if top == bottom and left == right:
        return (top, left), []
    return None, [left, right, top, bottom]


def _require_explicit_padding(attrs: Attributes) -> None:
    if attrs.get("auto_pad", "NOTSET") != "NOTSET":
        raise EngineError(f"engine 'torch' does not know auto_pad={attrs['auto_pad']}")


def _conv(attrs: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    _require_explicit_padding(attrs)
    padding, extra = _split_pads(attrs.get("pads", (0, 0, 0, 0)))
    if extra:
        x = F.pad(x, extra)
    return F.conv2d(
        x,
        weight,
        bias,
        stride=tuple(attrs.get("strides", (1, 1))),
        padding=padding or (0, 0),
        dilation=tuple(attrs.get("dilations", (1, 1))),
        groups=attrs.get("group", 1),
    )


def _conv_transpose(attrs: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    _require_explicit_padding(attrs)
    if "output_shape" in attrs:
        raise EngineError("engine 'torch' does not know ConvTranspose with output_shape")
    top, left, bottom, right = attrs.get("pads", (0, 0, 0, 0))
    below, beside = attrs.get("output_padding", (0, 0))
    full = F.conv_transpose2d(
        x,
        weight,
        bias,
        stride=tuple(attrs.get("strides", (1, 1))),
        output_padding=(below, beside),
        groups=attrs.get("group", 1),
        dilation=tuple(attrs.get("dilations", (1, 1))),
    )
    return full[:, :, top : full.shape[2] - bottom, left : full.shape[3] - right]


def _clip(attrs: Attributes, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    if low is not None:
        x = torch.maximum(x, low)
    return x if high is None else torch.minimum(x, high)


def _slice(
    attrs: Attributes,
    x: Tensor,
    starts: Tensor,
    ends: Tensor,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    first, last = _ints(starts), _ints(ends)
    axis_list = _ints(axes) if axes is not None else list(range(len(first)))
    step_list = _ints(steps) if steps is not None else [1] * len(first)
    if min(step_list, default=1) < 1:
        raise EngineError("engine 'torch' does not know Slice with negative steps")
    where = [slice(None)] * x.dim()
    for axis, start, end, step in zip(axis_list, first, last, step_list, strict=True):
        where[axis] = slice(start, end, step)
    return x[tuple(where)]


def _depth_to_space(attrs: Attributes, x: Tensor) -> Tensor:
    size = attrs["blocksize"]
    if attrs.get("mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, size)
    n, c, h, w = x.shape
    blocks = x.reshape(n, size, size, c // (size * size), h, w)
    return blocks.permute(0, 3, 4, 1, 5, 2).reshape(n, c // (size * size), h * size, w * size)


def _space_to_depth(attrs: Attributes, x: Tensor) -> Tensor:
    size = attrs["blocksize"]
    n, c, h, w = x.shape
    blocks = x.reshape(n, c, h // size, size, w // size, size)
    return blocks.permute(0, 3, 5, 1, 2, 4).reshape(n, c * size * size, h // size, w // size)


def _pad(attrs: Attributes, x: Tensor, pads: Tensor, value: Tensor | None = None, axes: Tensor | None = None) -> Tensor:
    amounts = _ints(pads)
    axis_list = [axis % x.dim() for axis in _ints(axes)] if axes is not None else list(range(x.dim()))
    before, after = [0] * x.dim(), [0] * x.dim()
    for position, axis in enumerate(axis_list):
        before[axis], after[axis] = amounts[position], amounts[position + len(axis_list)]
    flat = [amount for axis in reversed(range(x.dim())) for amount in (before[axis], after[axis])]
    mode = attrs.get("mode", "constant")
    if mode == "constant":
        return F.pad(x, flat, value=0.0 if value is None else float(value))
    while flat and flat[-2:] == [0, 0]:  # torch's other modes take the padded trailing axes only
        flat = flat[:-2]
    if not flat:
        return x
    flat += [0] * (4 - len(flat))
    return F.pad(x, flat, mode={"edge": "replicate", "reflect": "reflect", "wrap": "circular"}[mode])


def _gather(attrs: Attributes, x: Tensor, indices: Tensor) -> Tensor:
    axis = attrs.get("axis", 0) % x.dim()
    flat = indices.reshape(-1).to(torch.int64) % x.shape[axis]
    gathered = x.index_select(axis, flat)
    return gathered.reshape([*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]])


def _reshape(attrs: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    keep_zero = attrs.get("allowzero", 0)
    sizes = [x.shape[i] if size == 0 and not keep_zero else size for i, size in enumerate(_ints(shape))]
    return x.reshape(sizes)


def _constant(attrs: Attributes) -> Tensor:
    if "value" in attrs:
        value: Tensor = attrs["value"]
        return value
    for name, dtype in (("value_float", torch.float32), ("value_int", torch.int64)):
        if name in attrs or name + "s" in attrs:
            return torch.tensor(attrs.get(name, attrs.get(name + "s")), dtype=dtype)
    raise EngineError(f"engine 'torch' does not know Constant with {', '.join(attrs)}")


def _split(attrs: Attributes, x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
    axis = attrs.get("axis", 0)
    if sizes is not None:
        return torch.split(x, _ints(sizes), dim=axis)
    return torch.split(x, -(-x.shape[axis] // attrs["num_outputs"]), dim=axis)


def _squeeze(attrs: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(tuple(_ints(axes)))


def _unsqueeze(attrs: Attributes, x: Tensor, axes: Tensor) -> Tensor:
    rank = x.dim() + axes.numel()
    for axis in sorted(axis % rank for axis in _ints(axes)):
        x = x.unsqueeze(axis)
    return x


def _shape(attrs: Attributes, x: Tensor) -> Tensor:
    return torch.tensor(list(x.shape)[attrs.get("start", 0) : attrs.get("end")], dtype=torch.int64)


def _reduce(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    def operator(attrs: Attributes, *values: Tensor) -> Tensor:
        result = values[0]
        for value in values[1:]:
            result = function(result, value)
        return result

    return operator


def _plain(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda attrs, *values: function(*values)


def _div(attrs: Attributes, a: Tensor, b: Tensor) -> Tensor:
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


OPERATORS: dict[str, Callable[..., Any]] = {
    "Abs": _plain(torch.abs),
    "Add": _plain(torch.add),
    "Cast": lambda attrs, x: x.to(_CAST_TO[attrs["to"]]),
    "Ceil": _plain(torch.ceil),
    "Clip": _clip,
    "Concat": lambda attrs, *values: torch.cat(values, dim=attrs["axis"]),
    "Constant": _constant,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "DepthToSpace": _depth_to_space,
    "Div": _div,
    "Exp": _plain(torch.exp),
    "Expand": lambda attrs, x, shape: x * torch.ones(_ints(shape), dtype=x.dtype),
    "Floor": _plain(torch.floor),
    "Gather": _gather,
    "Identity": lambda attrs, x: x,
    "LeakyRelu": lambda attrs, x: F.leaky_relu(x, attrs.get("alpha", 0.01)),
    "MatMul": _plain(torch.matmul),
    "Max": _reduce(torch.maximum),
    "Min": _reduce(torch.minimum),
    "Mul": _plain(torch.mul),
    "Neg": _plain(torch.neg),
    "Pad": _pad,
    "Pow": _plain(torch.pow),
    "Relu": _plain(torch.relu),
    "Reshape": _reshape,
    "Round": _plain(torch.round),
    "Shape": _shape,
    "Sigmoid": _plain(torch.sigmoid),
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Sqrt": _plain(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": _plain(torch.sub),
    "Sum": _reduce(torch.add),
    "Tanh": _plain(torch.tanh),
    "Transpose": lambda attrs, x: x.permute(attrs.get("perm", tuple(reversed(range(x.dim()))))),
    "Unsqueeze": _unsqueeze,
}
