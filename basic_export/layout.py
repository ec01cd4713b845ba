"""Names and sizes that define a bundle; importable without PyTorch and ONNX."""

from __future__ import annotations

MANIFEST, TABLES, GOLDEN, GRAPHS = "manifest.json", "tables.safetensors", "golden.safetensors", "graphs"

#: Latents of golden vectors are those of a picture of so many pixels a side, a multiple of 64.
GOLDEN_SIDE = 128
