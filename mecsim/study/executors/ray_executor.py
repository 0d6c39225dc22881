"""Jobs on a Ray cluster: a running one, or one on this machine that ends with the batch."""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, redirect_stdout
from importlib.metadata import version
from typing import Any, Final

from mecsim.errors import InputError
from mecsim.study.executors.base import Executor
from mecsim.study.executors.local import ONE_THREAD
from mecsim.study.jobs import Job, Outcome, contents, execute_apart
from mecsim.support.files import as_temporary_error

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # send no usage statistics
_LOOPBACK: Final = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # 0: Ray stays on 127.0.0.1

RETRIES: Final = 3
"""Number of retries of a job whose process or node died."""
STORE_BYTES: Final = 100 * 2**20
"""Size of Ray's object store on a cluster of this machine: policies and outcomes are small."""
_CONNECT_S: Final = 5.0


class Cluster:
    """A connection to a Ray cluster, one at a time in a process.

    Without an address (``HOST:PORT``) and without ``$RAY_ADDRESS`` it starts a cluster on this
    machine, which listens on 127.0.0.1 only and ends with the connection or with this process.
    Messages that Ray prints to stdout (nodes that died, jobs that it moves) go to stderr.

    Raises:
        InputError: Ray is not installed, or no cluster answers.
    """

    def __init__(self, address: str = "", cpus: int | None = None) -> None:
        address = address or os.environ.get("RAY_ADDRESS", "")
        host = _answering(address) if address else "127.0.0.1"
        if host in ("127.0.0.1", "localhost"):
            os.environ.setdefault(_LOOPBACK, "0")
        if not address and not {"RAY_AUTH_MODE", "ray"} & {*os.environ, *sys.modules}:
            # Else Ray keeps a token in ~/.ray; it reads these variables when it is imported.
            os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self._ray = _import_ray()
        with as_temporary_error("a temporary folder"):
            self._folder = "" if address else tempfile.mkdtemp(prefix="mecsim-ray-")
        self._redirected = ExitStack()
        self._redirected.enter_context(redirect_stdout(sys.stderr))
        own = {
            "num_cpus": cpus or len(os.sched_getaffinity(0)),
            "include_dashboard": False,
            "object_store_memory": STORE_BYTES,
            "_temp_dir": self._folder,
        }
        try:
            self._ray.init(
                address or "local",
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"env_vars": ONE_THREAD},
                **({} if address else own),
            )
        except (RuntimeError, ValueError, OSError) as error:
            self.close()
            raise InputError(_refused(address, error)) from error
        except BaseException:
            self.close()
            raise

    @property
    def cpus(self) -> int:
        """CPUs of all nodes that are alive, at least 1."""
        return max(1, int(self._ray.cluster_resources().get("CPU", 0)))

    def close(self) -> None:
        """Disconnect; this ends a cluster started here and our jobs on another one."""
        self._ray.shutdown()
        self._redirected.close()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Cluster:
        """Return itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close."""
        self.close()


class RayExecutor(Executor):
    """Jobs in processes on the nodes of a Ray cluster, each on its own CPU.

    The job, the contents of its files, its policy and its outcome are sent over the network. Every
    node must have the same version of mecsim installed.
    """

    def __init__(self, address: str = "", jobs: int | None = None) -> None:
        self._cluster = Cluster(address, jobs)
        self._jobs = jobs
        self.slots = jobs or self._cluster.cpus
        self._ray = _import_ray()
        self._execute = self._ray.remote(num_cpus=1)(_execute)
        self._submitted: set[str] = set()

    def submit(self, jobs: Sequence[Job], policy: bytes | None) -> Future[list[Outcome]]:
        """Submit jobs; Ray retries them up to ``RETRIES`` times if their worker or node dies.

        Resubmitted jobs are not retried.
        """
        self.slots = self._jobs or self._cluster.cpus  # nodes come and go
        keys = {job.key for job in jobs}
        retries = 0 if keys & self._submitted else RETRIES
        self._submitted |= keys
        outcomes: Future[list[Outcome]] = Future()
        try:
            files = contents(jobs[0])
        except InputError as error:
            outcomes.set_result([Outcome(None, error=str(error))] * len(jobs))
            return outcomes
        remote = self._execute.options(max_retries=retries)
        reference = remote.remote(jobs, policy, files, version("mecsim"))
        reference.future().add_done_callback(lambda done: self._pass_on(done, outcomes, len(jobs)))
        return outcomes

    def lost(self, error: BaseException) -> bool:
        """Whether an error means that the process or node of a job died."""
        kinds = self._ray.exceptions
        return isinstance(
            error,
            kinds.WorkerCrashedError
            | kinds.NodeDiedError
            | kinds.OutOfMemoryError
            | kinds.ObjectLostError,
        )

    def close(self) -> None:
        """Disconnect; processes that still compute jobs of this batch end."""
        self._cluster.close()

    def _pass_on(
        self, done: Future[list[Outcome]], outcomes: Future[list[Outcome]], count: int
    ) -> None:
        """Copy a future; an error of the node, other than its death, is a failure of its jobs."""
        error = done.exception()
        if error is None:
            outcomes.set_result(done.result())
        elif self.lost(error):
            outcomes.set_exception(error)
        else:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            failed = Outcome(None, error=f"a node cannot compute it: {lines[-1].strip()}")
            outcomes.set_result([failed] * count)


def _execute(
    jobs: Sequence[Job], policy: bytes | None, files: Mapping[str, bytes], expected: str
) -> list[Outcome]:
    """Compute jobs on a node."""
    if (here := version("mecsim")) != expected:
        error = f"a node has mecsim {here}; expected {expected}, as on this machine"
        return [Outcome(None, error=error)] * len(jobs)
    multiprocessing.set_start_method("spawn", force=True)  # Ray's threads would not survive a fork
    return execute_apart(jobs, policy, files)


def _import_ray() -> Any:
    """Return the package. Raises ``InputError`` if it is not installed."""
    try:
        import ray  # noqa: PLC0415 - optional
    except ImportError as error:
        raise InputError("--engine ray: needs Ray. Try: pip install 'mecsim[ray]'") from error
    return ray


def _refused(address: str, error: Exception) -> str:
    """Return the message for a refused connection; Ray itself only logs a missing token."""
    where = f"cluster at {address}" if address else "cluster on this machine"
    problem = " ".join(str(error).split())
    hint = ""
    if address and os.environ.get("RAY_AUTH_MODE") != "token":
        hint = ". If the cluster needs a token (`ray start` prints that), set RAY_AUTH_MODE=token"
    return f"--engine ray: {where}: {problem}{hint}"


def _answering(address: str) -> str:
    """Return the host of an address. Raises ``InputError`` if no server answers there.

    Ray itself would try for minutes and then end the process.
    """
    found = re.fullmatch(r"\[?([\w.:-]+?)\]?:(\d{1,5})", address, re.ASCII)
    if found is None or int(found[2]) > 65535:
        problem = "expected HOST:PORT, as `ray start --head` prints it"
        raise InputError(f"--ray-address: {address!r}: {problem}")
    try:
        socket.create_connection((found[1], int(found[2])), _CONNECT_S).close()
    except OSError as error:
        problem = f"no Ray cluster answers ({error.strerror or error})"
        raise InputError(f"--ray-address: {address}: {problem}") from error
    return found[1]
