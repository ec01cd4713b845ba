"""What encoder and decoder do with a whole picture, in PyTorch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from basic_runtime.tables import TableArrays
from basic_train.model.coded import QUALITY_STEPS, EntropyPath, analyse, code_latents
from basic_train.model.supernet import Supernet, Widths


@dataclass
class CodedPicture:
    """Bits of a picture's latents (files add header and coder overhead) and the decoded pixels, uint8 (H, W, 3)."""

    y_bits: float
    z_bits: float
    pixels: np.ndarray

    @property
    def bits(self) -> float:
        return self.y_bits + self.z_bits


@torch.no_grad()
def code_picture(
    net: Supernet, entropy: EntropyPath, tables: TableArrays, pixels: np.ndarray, step: int, widths: Widths
) -> CodedPicture:
    """Evaluation forward of a picture uint8 (H, W, 3) at a quality step 0 .. 63, as encoder and decoder would do it.

    `entropy` must be of width `widths.h_s`; any picture size.
    """
    latents = code_latents(entropy, tables, *analyse(net, pixels, step, widths))
    quality = torch.tensor([step / (QUALITY_STEPS - 1)])
    x_hat = net.reconstruct(latents.y_hat, quality, widths.g_s)
    decoded = torch.clamp(torch.floor(x_hat * 255 + 0.5), 0, 255).to(torch.uint8)
    cropped = decoded[0, :, : pixels.shape[0], : pixels.shape[1]]
    return CodedPicture(latents.y_bits, latents.z_bits, cropped.permute(1, 2, 0).numpy())
