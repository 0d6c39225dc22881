"""Where jobs are computed: in processes of this machine, or elsewhere. One file an engine."""

from mecsim.study.executors.base import Engine, EngineLostError
from mecsim.study.executors.choice import ENGINES, cluster_for, make_engine

__all__ = ["ENGINES", "Engine", "EngineLostError", "cluster_for", "make_engine"]
