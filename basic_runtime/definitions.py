"""Names and numbers that several modules share, and that the command line states before anything else is loaded."""

from __future__ import annotations

EXTENSION = ".basic"
"""How the names of compressed files end."""

DEFAULT_MODEL = "lite-11"
"""Name of the bundle inside this package that is used when none is named."""

MAX_EFFORT = 9
"""The most that an encoder takes upon itself; 0 is the least."""

SCALE_ROWS = 64
"""Rows of a bundle's coder tables that belong to scales of y; row SCALE_ROWS + c belongs to z channel c."""
