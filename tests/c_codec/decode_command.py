"""What tests of the decoder without Python share."""

from __future__ import annotations

import subprocess
from typing import Protocol


class Decode(Protocol):
    """Runs basic-decode with arguments."""

    def __call__(self, *arguments: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]: ...
