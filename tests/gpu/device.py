"""What the tests of a GPU are made with: less where it is simulated (tests/gpu/simulated), which is slow."""

from __future__ import annotations

from importlib.util import find_spec

from skimage import data

from basic_export.engines import SIZES
from basic_runtime.engines.engine_set import Sizes

SIMULATED = find_spec("simulated_device") is not None

ENGINE_SIZES = Sizes((64, 64), (128, 128), (256, 256)) if SIMULATED else SIZES
PICTURE_SIZES = [(1, 1), (64, 65), (330, 70)] if SIMULATED else [(1, 1), (64, 65), (700, 900), (1700, 1600)]
"""Heights and widths: from one pixel to more than one tile."""
PHOTO = data.astronaut()[:192, :128] if SIMULATED else data.astronaut()[:384, :320]
LEVELS = (0, 7) if SIMULATED else tuple(range(8))
PICTURES = 20 if SIMULATED else 1000
PROFILED = 128 if SIMULATED else 256
"""Side of the picture that a profile is made of."""
SLACK = 1 << 16 if SIMULATED else 64 << 20
"""Bytes that a driver and its libraries may keep for themselves."""
