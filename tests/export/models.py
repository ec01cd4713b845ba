"""What tests of the export share: a tiny supernet with random weights, and the result of the command."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from click.testing import Result

from basic_runtime import container
from basic_runtime.post_filter import shape_of
from basic_train.model.presets import TINY
from basic_train.model.supernet import Supernet


@dataclass(frozen=True)
class Exported:
    """A bundle made by the command, the JSON that it printed, and what it said on standard error."""

    path: Path
    report: dict[str, Any]
    stderr: str


@dataclass(frozen=True)
class Small:
    """A bundle of one level, the command's arguments up to the output, and its result."""

    path: Path
    arguments: list[str]
    result: Result


def unfiltered(data: bytes) -> bytes:
    """A file whose pixels are those that g_s gives."""
    content = container.read(data)
    weights = np.zeros(shape_of(content.header.gray), np.int8)
    return container.write(replace(content, post_filter=weights))


def random_tiny() -> Supernet:
    torch.manual_seed(0)
    net = Supernet(TINY).eval()
    torch.nn.init.normal_(net.context.phase_bias, std=0.1)  # starts at zero
    return net
