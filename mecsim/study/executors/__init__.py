"""Where jobs are computed: in processes of this machine, or elsewhere. One file an engine."""

from mecsim.study.executors.base import Executor, ExecutorLostError
from mecsim.study.executors.choice import EXECUTORS, cluster_for, make_executor

__all__ = ["EXECUTORS", "Executor", "ExecutorLostError", "cluster_for", "make_executor"]
