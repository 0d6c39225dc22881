"""A Ray cluster whose nodes are all on this machine, at 127.0.0.1."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def ray_cluster(cpus: int) -> Iterator[Any]:
    """Start a cluster whose head has CPUs for jobs, or none; end it on exit."""
    from ray import cluster_utils  # noqa: PLC0415 - Ray is optional

    folder = tempfile.mkdtemp(prefix="ray-")  # pytest's are too long for the names of sockets
    head = {
        "num_cpus": cpus,
        "node_ip_address": "127.0.0.1",
        "include_dashboard": False,
        "include_log_monitor": False,
        "temp_dir": folder,
    }
    # Where ray looks for the address of a cluster: it writes there, and expects that there is one.
    Path(tempfile.gettempdir(), "ray").mkdir(exist_ok=True)
    made: Any = cluster_utils.Cluster(initialize_head=True, head_node_args=head)
    try:
        yield made
    finally:
        made.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
