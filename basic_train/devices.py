"""What a run computes on: processor or GPUs, one process or many, by Lightning Fabric."""

from __future__ import annotations

import ctypes
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NoReturn

from basic_runtime.errors import BasicError
from basic_train.signals import held_back

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.strategies import Strategy

ACCELERATORS = ("auto", "cpu", "cuda", "mps")


class DeviceError(BasicError):
    """The devices asked for are not there."""


@dataclass(frozen=True)
class Devices:
    """count: processes on each node, a GPU each, or on processors a share of the cores each; nodes: machines that run
    the same command. Under torchrun both come from its environment instead."""

    accelerator: str = "auto"
    count: int = 1
    nodes: int = 1

    @property
    def several(self) -> bool:
        """Whether this is one process of many."""
        places = _from_torchrun(self)
        return places.count * places.nodes > 1

    def fabric(self, has_unused_parameters: bool, report: Callable[[str], None]) -> Fabric:
        """Start the other processes, if any, and join them; every process returns.

        has_unused_parameters: whether a step may give some parameters no gradient. Raises DeviceError.
        """
        from lightning_fabric import Fabric

        places = _from_torchrun(self)
        # 1x1 kernels have the strides of either layout; nothing is slower for it.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        strategy = self._strategy(has_unused_parameters, report)
        try:
            fabric = Fabric(
                accelerator=places.accelerator,
                devices=places.count,
                num_nodes=places.nodes,
                strategy=strategy,
            )
            if places.nodes > 1:
                fabric.strategy.require_settings()
            with held_back():
                fabric.launch()
        except (RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0].partition(". ")[0].rstrip(".")
            raise DeviceError(
                f"cannot start {places.count} process(es) on {places.accelerator!r}: {reason}; "
                "pass other --accelerator, --devices or --nodes"
            ) from error
        return fabric

    def _strategy(self, has_unused_parameters: bool, report: Callable[[str], None]) -> Strategy | str:
        from lightning_fabric.strategies import DDPStrategy

        from basic_train.machines import MachinesStrategy

        if not self.several:
            return "auto"
        if _from_torchrun(self).nodes > 1:
            return MachinesStrategy(report, find_unused_parameters=has_unused_parameters)
        return DDPStrategy(find_unused_parameters=has_unused_parameters)


def leave(status: int) -> NoReturn:
    """End this process of a run of several with an exit status, at once.

    To end a process group waits for threads whose last work may wait for the interpreter's lock, which is then held: a
    run on a busy machine never ended (PyTorch 2.13, gloo).
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # whoever read it has gone, or it is closed
            stream.flush()
    os._exit(status)


def _from_torchrun(asked: Devices) -> Devices:
    """What torchrun started, where it did; else what was asked for."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return asked
    local = int(os.environ["LOCAL_WORLD_SIZE"])
    return replace(asked, count=local, nodes=int(os.environ["WORLD_SIZE"]) // local)


def tune_allocator() -> None:
    """Keep freed tensors in the process: glibc returns each to the kernel, which halves the speed."""
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(-4, 0)  # M_MMAP_MAX
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
    except (OSError, AttributeError):
        pass  # another C library: only speed is lost
