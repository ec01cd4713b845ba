"""A process of a run: what torchrun starts in test_processes.py."""

import sys
from pathlib import Path

import torch

from basic_train.recipe import Recipe
from basic_train.train import Trainer

RECIPE = Recipe(preset="tiny", precision="32-true", steps=4, crop=64, batch=4, warmup_steps=1, save_minutes=1e6)


def main(photos: str, out: str) -> None:
    """Train, and write the weights of this process."""
    torch.set_num_threads(1)
    trainer = Trainer(RECIPE, Path(out) / "run", Path(photos))
    trainer.run()
    torch.save(trainer.module.state_dict(), Path(out) / f"rank-{trainer.fabric.global_rank}.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
