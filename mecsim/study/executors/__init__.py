"""Where jobs are computed: processes of this machine, or a Ray cluster. One file per executor."""

from mecsim.study.executors.base import Executor, ExecutorLostError
from mecsim.study.executors.choice import EXECUTORS, ExecutorChoice, cluster_for, make_executor

__all__ = [
    "EXECUTORS",
    "Executor",
    "ExecutorChoice",
    "ExecutorLostError",
    "cluster_for",
    "make_executor",
]
