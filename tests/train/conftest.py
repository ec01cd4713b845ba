"""Small models do not profit from threads, and pytest-xdist uses the cores already."""

import torch

torch.set_num_threads(1)
