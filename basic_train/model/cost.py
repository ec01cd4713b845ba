"""What a configuration costs: parameters and true multiply-accumulates."""

from __future__ import annotations

from torch import nn

from basic_train.model.supernet import Y_STRIDE, Z_STRIDE, Supernet, Widths


def macs_per_pixel(net: Supernet, widths: Widths) -> dict[str, float]:
    """MAC per picture pixel of g_a, h_a, h_s, context (one dense pass) and g_s at the given widths.

    Normalisation counts as its 1x1 convolution; biases and activations count nothing (model-spec §1.5).
    """
    y_pixels, z_pixels = Y_STRIDE**2, Z_STRIDE**2
    return {
        "g_a": net.g_a.macs(widths.g_a),
        "h_a": net.h_a.macs(widths.h_a) / y_pixels,
        "h_s": net.h_s.macs(widths.h_s) / z_pixels,
        "context": net.context.macs(widths.h_s) / y_pixels,
        "g_s": net.g_s.macs(widths.g_s) / y_pixels,
    }


def parameter_counts(net: Supernet) -> dict[str, int]:
    """Trained numbers of each part of the supernet, all widths together."""
    return {name: _count(part) for name, part in net.named_children()}


def _count(part: nn.Module) -> int:
    return sum(p.numel() for p in part.parameters())
