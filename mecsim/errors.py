"""The errors that mecsim raises on purpose. This module imports nothing."""


class MecsimError(Exception):
    """Base of every error that mecsim raises on purpose."""


class InputError(MecsimError):
    """An input is wrong. The message names the input, its place, its value and what is allowed.

    The command line prints the message without a traceback and exits with code 2.
    """


class ScenarioError(InputError):
    """A scenario cannot be read, is not valid, or cannot be resolved."""


class ProfileError(InputError):
    """A DNN profile is unknown, unreadable, or cannot be cut as asked."""


class TraceError(InputError):
    """A trace file is missing, damaged, no mecsim trace, or of another format version."""


class SchedulerError(InputError):
    """A scheduler cannot be found, loaded or configured, or failed while deciding."""


class PlacementError(SchedulerError):
    """A placement is not in {0, …, N}^M."""


class PolicyError(SchedulerError):
    """A policy file is missing, damaged, or does not fit the scenario or the scheduler."""


class NoPolicyError(PolicyError):
    """No policy was trained on the scenario."""


class TrainingError(MecsimError):
    """A training failed: it diverged, or its workers died."""


class OverloadedError(MecsimError):
    """A network has so much work in flight that memory would run out. Exit code 1."""


class NodeFailedError(MecsimError):
    """A node of a testbed has ended, or does not answer. Exit code 1."""


class OutputError(InputError):
    """A result cannot be written (full disk, folder that is not writable)."""


class Interrupted(MecsimError):  # noqa: N818 - no error
    """The user stopped the work. The message says which results are kept. Exit code 130."""
