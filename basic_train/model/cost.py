"""What a configuration costs: parameters and true multiply-accumulates."""

from __future__ import annotations

from dataclasses import dataclass, fields

from torch import nn

from basic_train.model.supernet import Y_STRIDE, Z_STRIDE, Supernet, Widths


@dataclass(frozen=True)
class Costs:
    """What each transform costs at each width index, in any unit. `context` goes with h_s: all its stages,
    compiled as export does."""

    g_a: tuple[float, ...]
    h_a: tuple[float, ...]
    h_s: tuple[float, ...]
    context: tuple[float, ...]
    g_s: tuple[float, ...]

    @classmethod
    def of(cls, net: Supernet) -> Costs:
        """In multiply-accumulates per picture pixel."""
        costs = [macs_per_pixel(net, net.uniform(index)) for index in range(len(net.config.widths))]
        return cls(**{field.name: tuple(cost[field.name] for cost in costs) for field in fields(cls)})

    def encode(self, widths: Widths) -> float:
        """What a sender computes: all but g_s."""
        return self.g_a[widths.g_a] + self.h_a[widths.h_a] + self.h_s[widths.h_s] + self.context[widths.h_s]

    def decode(self, widths: Widths) -> float:
        """What a receiver computes: h_s, the context stages and g_s."""
        return self.h_s[widths.h_s] + self.context[widths.h_s] + self.g_s[widths.g_s]

    def total(self, widths: Widths) -> float:
        """Sender and receiver together; the entropy model counts twice."""
        return self.encode(widths) + self.decode(widths)

    def side(self, widths: Widths, side: str) -> float:
        """The cost of a side: "both", "encode" or "decode"."""
        return {"both": self.total, "encode": self.encode, "decode": self.decode}[side](widths)


def macs_per_pixel(net: Supernet, widths: Widths) -> dict[str, float]:
    """MAC per picture pixel of g_a, h_a, h_s, context (all stages, compiled) and g_s at the given widths.

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
    parts = {name: _count(part) for name, part in net.named_children()}
    return {name: count for name, count in parts.items() if count or name != "alternatives"}


def _count(part: nn.Module) -> int:
    return sum(p.numel() for p in part.parameters())
