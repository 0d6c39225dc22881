"""The errors that mecsim raises on purpose. Imports nothing."""


class MecsimError(Exception):
    """Base of every error that mecsim raises on purpose."""


class InputError(MecsimError):
    """Something from outside is wrong; the message names what, where and what is allowed.

    The command line prints the message without a traceback and exits with code 2.
    """


class ScenarioError(InputError):
    """A scenario cannot be read, is not valid, or cannot be resolved."""


class ProfileError(InputError):
    """A DNN profile is unknown, unreadable, or cannot be cut as asked."""


class TraceError(InputError):
    """A trace file is missing, damaged, foreign, or of another format version."""


class SchedulerError(InputError):
    """A scheduler cannot be found, loaded or configured, or failed while deciding."""


class PlacementError(SchedulerError):
    """A scheduler returned something that is not a placement in {0, …, N}^M."""


class PolicyError(SchedulerError):
    """A policy file is missing, damaged, or does not fit the scenario or the scheduler."""


class TrainingError(MecsimError):
    """A training failed: it diverged, or its workers died."""


class OutputError(InputError):
    """A result cannot be written (full disk, folder that is not writable)."""


class Interrupted(MecsimError):  # noqa: N818 - no error
    """The user stopped the work; the message says what was kept. Exit code 130."""
