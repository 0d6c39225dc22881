"""Training of learning schedulers: a request in, policy, learning curve and checkpoints out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from importlib import import_module
from importlib.metadata import version
from typing import Any

from mecsim.errors import InputError, Interrupted, TrainingError
from mecsim.learning.checkpoint import TrainingIdentity, find_saved
from mecsim.learning.interface import Learner, TrainingResult, classes_of
from mecsim.learning.options import check_workers, find_learner, resolve_settings
from mecsim.learning.policy_file import Policy, PolicyHeader, write_policy
from mecsim.learning.problem import TrainingProblem, TrainingRequest
from mecsim.learning.recorder import (
    Progress,
    TrainingFiles,
    TrainingRecorder,
)
from mecsim.model.model import self_contained
from mecsim.scenario.schema import RecordedTasks, Scenario
from mecsim.scheduler.custom_features import AddedFeatures, FeatureSource
from mecsim.scheduler.observation import feature_names


def train(
    request: TrainingRequest, *, resume: bool = False, progress: Progress | None = None
) -> dict[str, Any]:
    """Train a scheduler on a scenario and write its policy.

    Learning curve, event files and checkpoints are written next to the policy, see
    :class:`TrainingFiles`.

    Args:
        request: The scenario, the scheduler, and how to train it.
        resume: Continue from the last checkpoint if there is one. A complete training is
            prolonged to the requested episodes.
        progress: Called after each step of the training.

    Returns:
        A summary of plain values: the request, the reward on validation seeds, the learning curve
        and the names of all files.

    Raises:
        InputError: If the input is wrong, or an extra is not installed.
        TrainingError: If the training fails.
        Interrupted: On Ctrl-C; the message says what was saved.
    """
    (found,) = train_stack([request], resume=resume, progress=progress)
    if isinstance(found, TrainingError):
        raise found
    return found


def train_stack(
    requests: Sequence[TrainingRequest],
    *,
    resume: bool = False,
    progress: Progress | None = None,
) -> list[dict[str, Any] | TrainingError]:
    """Train a scheduler several times at once, see :meth:`Learner.train_stack`.

    Args:
        requests: Trainings of one scheduler, scenario and length; options of equal
            :func:`mecsim.learning.options.stack_key`.
        resume: Continue from the last checkpoints if there are some.
        progress: Called after each step of the first training.

    Returns:
        The summary of each training, see :func:`train`, or why it failed.

    Raises:
        InputError, Interrupted: As :func:`train`.
    """
    learner = find_learner(requests[0].scheduler)
    trainings = [_Training(learner, request, resume=resume) for request in requests]
    _check_extra(requests[0].scheduler, ("tensorboardX", *learner.requires))
    with ExitStack() as stack:
        recorders = [
            stack.enter_context(closing(each.recorder(progress=shown)))
            for each, shown in zip(trainings, [progress, *[None] * len(trainings)], strict=False)
        ]
        try:
            results = learner.train_stack([each.problem for each in trainings], recorders)
        except KeyboardInterrupt:
            messages = [each.interrupted() for each in recorders]
            raise Interrupted(messages[0]) from None
    return [
        found if isinstance(found, TrainingError) else each.finish(found, recorder)
        for each, found, recorder in zip(trainings, results, recorders, strict=True)
    ]


class _Training:
    """A checked request, the files of its training, and what an earlier attempt saved of it."""

    def __init__(self, learner: type[Learner], request: TrainingRequest, *, resume: bool) -> None:
        self._learner, self._request = learner, request
        problem = _problem(learner, request)
        learner.untrained(problem.spec, problem.settings)  # reports a misfit before any file
        self._custom = _custom_features(problem)
        self._files, asked = (
            TrainingFiles(request.out),
            _identity(request, problem, self._custom),
        )
        self._saved = find_saved(self._files.checkpoint, request.out, asked, resume=resume)
        self._identity = asked if self._saved is None else self._saved.record.identity
        self.problem = replace(problem, prolonged=self._identity.prolonged)

    def recorder(self, *, progress: Progress | None) -> TrainingRecorder:
        """Begin the records. Raises ``OutputError``."""
        return TrainingRecorder(self._files, self._identity, self._saved, progress=progress)

    def finish(self, result: TrainingResult, recorder: TrainingRecorder) -> dict[str, Any]:
        """Write the policy; return the summary."""
        summary = _summary(self._request, self.problem, result)
        header = _header(self._learner, self.problem, self._custom, summary)
        write_policy(self._request.out, Policy(header, result.arrays))
        recorder.complete()
        return summary | {
            "settings": self._identity.settings,
            "wall_s": recorder.wall_s,
            "curve": recorder.evaluations(),
            "policy": str(self._request.out),
            "curve_file": str(self._files.curve),
            "events": str(self._files.events),
        }


def _problem(learner: type[Learner], request: TrainingRequest) -> TrainingProblem:
    """Check a request and return its problem. Raises ``InputError``."""
    settings = resolve_settings(request.scheduler, request.options, request.preset)
    request.check()
    check_workers(request.scheduler, settings, request.workers, request.engine)
    serial = request.serial or learner.in_one_process(settings)
    problem = TrainingProblem(
        _drawn_scenario(request.scenario),
        settings,
        request.seed,
        request.episodes,
        1 if serial else request.workers,
        serial,
        request.engine,
    )
    with request.scenario.locating():
        _ = problem.spec  # resolves the scenario, which may fail
    return problem


def _drawn_scenario(scenario: Scenario) -> Scenario:
    """Return a scenario with all files that it names read. Raises ``InputError``."""
    with scenario.locating():
        scenario = self_contained(scenario)
    if any(isinstance(each.arrivals, RecordedTasks) for each in scenario.classes):
        raise InputError("arrivals.process: trace: training needs drawn tasks, not recorded ones")
    return scenario


def _check_extra(scheduler: str, modules: Iterable[str]) -> None:
    """Raise ``InputError`` if a module of the extra ``torch`` cannot be imported."""
    missing = [name for name in modules if not _importable(name)]
    if missing:
        raise InputError(
            f"training {scheduler} needs {' and '.join(missing)}. Try: pip install 'mecsim[torch]'"
        )


def _importable(module: str) -> bool:
    try:
        import_module(module)
    except ImportError:
        return False
    return True


def _custom_features(problem: TrainingProblem) -> FeatureSource | None:
    """Return where the custom features of a training come from. Raises ``SchedulerError``."""
    given = problem.features
    return None if given is None else AddedFeatures(given, problem.spec).described()


def _identity(
    request: TrainingRequest, problem: TrainingProblem, custom: FeatureSource | None
) -> TrainingIdentity:
    return TrainingIdentity(
        scheduler=request.scheduler,
        scenario_sha256=problem.scenario.sha256(),
        settings=problem.settings.model_dump(mode="json"),
        episodes=request.episodes,
        seed=request.seed,
        serial=problem.serial,
        features_sha256="" if custom is None else custom.sha256,
    )


def _summary(
    request: TrainingRequest, problem: TrainingProblem, result: TrainingResult
) -> dict[str, Any]:
    return {
        "scenario": request.scenario_name,
        "scheduler": request.scheduler,
        "preset": request.preset,
        "seed": request.seed,
        "episodes": request.episodes,
        "workers": problem.workers,
        "serial": problem.serial,
        "validation_reward": result.validation_reward,
    } | ({"prolonged": list(problem.prolonged)} if problem.prolonged else {})


def _header(
    learner: type[Learner],
    problem: TrainingProblem,
    custom: FeatureSource | None,
    summary: dict[str, Any],
) -> PolicyHeader:
    spec = problem.spec
    return PolicyHeader(
        scheduler=learner.name,
        scenario=summary["scenario"],
        scenario_sha256=spec.scenario_sha256,
        blocks=spec.most_blocks,
        classes=classes_of(spec),
        servers=spec.servers,
        decision_epoch=spec.decision_epoch,
        features=[*feature_names(spec), *(custom.names if custom else ())],
        custom_features=custom,
        settings=problem.settings.model_dump(mode="json"),
        training={k: v for k, v in summary.items() if k not in ("scenario", "scheduler")},
        mecsim_version=version("mecsim"),
    )
