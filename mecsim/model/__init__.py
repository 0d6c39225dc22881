"""The model: a scenario resolved under a seed, with its equations, workload and random streams."""

from mecsim.model.model import Model, resolve

__all__ = ["Model", "resolve"]
