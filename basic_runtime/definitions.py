"""Names and numbers that several modules share, and that the command line states before anything else is loaded."""

from __future__ import annotations

EXTENSION = ".basic"
"""How the names of compressed files end."""

DEFAULT_MODEL = "lite-11"
"""Name of the bundle inside this package that is used when none is named."""

MANIFEST, TABLES, WEIGHTS, GOLDEN = "manifest.json", "tables.safetensors", "weights.bin", "golden.safetensors"
"""Files of a bundle."""

GRAPHS = "graphs"
"""Folder of a bundle."""

PASSES = (0, 0, 2, 3, 4, 6, 8, 12, 16, 24)
"""Passes over the latents (`refine`) of each effort; from 1 on the picture gets a filter of its own, too
(`post_filter_fit`)."""

MAX_EFFORT = len(PASSES) - 1
"""The most that an encoder takes upon itself; 0 is the least."""

SCALE_ROWS = 64
"""Rows of a bundle's coder tables that belong to scales of y; row SCALE_ROWS + c belongs to z channel c."""
