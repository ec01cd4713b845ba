"""The transforms that a configuration can name: a module each, whose `build(config)` gives all four.

g_a takes a picture (B, 3, H, W) to y at 1/16, h_a y to z at 1/64, h_s z to the prior of y, g_s y to a picture; each is
called with a width index. To add one, write such a module and name it here.
"""

from __future__ import annotations

from collections.abc import Callable

from basic_train.model import cheng2020, elic, hyperprior, lite, paper
from basic_train.model.config import ModelConfig
from basic_train.model.slimmable import Transforms

BACKBONES: dict[str, Callable[[ModelConfig], Transforms]] = {
    "lite": lite.build,
    "paper": paper.build,
    "hyperprior": hyperprior.build,
    "cheng2020": cheng2020.build,
    "elic": elic.build,
}
