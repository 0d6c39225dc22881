"""Kernels: queues and an order of events, behind one stepper face."""

from mecsim.kernels.base import Kernel

__all__ = ["Kernel"]
