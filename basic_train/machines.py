"""Runs on several machines: what each must be told, and the wait for the others."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from lightning_fabric.plugins.environments import LightningEnvironment
from lightning_fabric.strategies import DDPStrategy

from basic_train.devices import DeviceError, leave
from basic_train.signals import heard_in_waits

#: What Lightning has to know where no cluster's manager tells it; without these it would guess, and wait for nobody.
SETTINGS = ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT")


class MachinesStrategy(DDPStrategy):
    """Data-parallel processes of several machines. Ctrl-C ends their wait for each other, which `report` is told of."""

    def __init__(self, report: Callable[[str], None], **options: Any) -> None:
        super().__init__(**options)
        self.report = report

    def setup_environment(self) -> None:
        """Join the processes of all machines."""
        environment = self.cluster_environment
        if self.local_rank == 0:
            place = f"{environment.main_address}:{environment.main_port}"
            here = f"machine {self.node_rank} of {self.num_nodes}, counted from 0"
            self.report(f"this is {here}: waiting for the others at {place}")
        with heard_in_waits(self._stop):
            super().setup_environment()

    def require_settings(self) -> None:
        """Raises DeviceError where this machine was not told its place among them."""
        missing = [name for name in SETTINGS if name not in os.environ]
        if isinstance(self.cluster_environment, LightningEnvironment) and missing:
            raise DeviceError(
                f"--nodes {self.num_nodes}: {', '.join(missing)} not set; set NODE_RANK, from 0 on, and the first "
                "machine's MASTER_ADDR and MASTER_PORT on each, or start them with torchrun"
            )

    def _stop(self) -> None:
        started = getattr(self.launcher, "procs", [])
        for process in started:
            process.kill()
        for process in started:
            process.wait()  # or one might still write below the last line
        sys.stderr.write("basic-train: stopped\n")
        leave(128 + signal.SIGINT)
