"""A kernel with the compiled one running along in its shadow, from which runs can branch off."""

from __future__ import annotations

from dataclasses import replace

from mecsim.arrays import Floats
from mecsim.kernels.base import Kernel
from mecsim.kernels.compiled import CompiledKernel
from mecsim.model import Model
from mecsim.routing import Hops


class ShadowedKernel:
    """Another kernel, beside which a compiled one does the same."""

    def __init__(self, kernel: Kernel, model: Model) -> None:
        self._kernel, self.shadow = kernel, CompiledKernel(model)

    def submit(self, hops: Hops) -> None:
        self._kernel.submit(hops)
        self.shadow.submit(replace(hops, rows=hops.rows.copy()))  # each fills in its own

    def advance(self, until_s: float) -> None:
        self._kernel.advance(until_s)
        self.shadow.advance(until_s)

    def drain(self) -> None:
        self._kernel.drain()

    def backlog_s(self) -> Floats:
        return self._kernel.backlog_s()

    def battery_j(self) -> Floats:
        return self._kernel.battery_j()

    def active(self) -> dict[int, Hops]:
        return self._kernel.active()

    def collect(self) -> list[Hops]:
        self.shadow.collect()
        return self._kernel.collect()
