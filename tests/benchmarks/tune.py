"""The same search for all learners: `python -m tests.benchmarks.tune [LEARNER ...]`.

Random search on the default scenario: the defaults and settings drawn from the same kind of grid
are trained with two seeds, the best of them with three more. The score of a setting is its mean
reward on validation seeds. Writes results/tuning.csv and prints the best.
"""

from __future__ import annotations

import csv
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from joblib import Parallel, delayed

from mecsim.errors import MecsimError
from mecsim.learning import TrainingRequest
from mecsim.learning.training import train
from mecsim.scenario.loading import load

TRIALS: Final = 12
FINALISTS: Final = 3
EPISODES: Final = 100
FIRST: Final = (0, 1)
MORE: Final = (2, 3, 4)

VINES: Final[dict[str, list[Any]]] = {
    "replayed_share": [0.0, 0.1, 0.2],
    "mutated_share": [0.0, 0.0, 0.25],
    "hidden_units": [64, 128],
}
ACTORS: Final[dict[str, list[Any]]] = VINES | {
    "elite_share": [0.05, 0.1, 0.2, 1.0],
    "elite_scope": ["pool", "group"],
    "actor_learning_rate": [2e-4, 5e-4, 1e-3, 2e-3],
    "ent_coef": [0.01, 0.03],
}
GRIDS: Final[dict[str, dict[str, list[Any]]]] = {
    "mtl-a3c": ACTORS | {"sharing": ["soft", "hard"]},
    "a3c": ACTORS,
    "dqn": VINES
    | {
        "learning_rate": [3e-4, 1e-3, 3e-3],
        "target_update_interval": [50, 100, 400],
        "buffer_size": [5_000, 20_000],
        "epsilon_end": [0.01, 0.1],
        "gamma": [0.5, 0.95],
    },
}


def settings_of(learner: str) -> Iterator[dict[str, Any]]:
    """Yield the defaults, then settings drawn from the learner's grid."""
    rng = np.random.default_rng(0)
    yield {}
    for _ in range(TRIALS - 1):
        yield {key: values[rng.integers(len(values))] for key, values in GRIDS[learner].items()}


def score(
    learner: str,
    settings: dict[str, Any],
    seed: int,
    *,
    episodes: int = EPISODES,
    changes: Sequence[str] = (),
) -> float:
    """Train once; return the reward of the best policy under the seeds of validation."""
    scenario = load("scenarios/vgg16_loaded.yaml", changes)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "policy.safetensors")
        try:
            found = train(
                TrainingRequest(
                    scenario=scenario,
                    scheduler=learner,
                    options=settings,
                    episodes=episodes,
                    seed=seed,
                    serial=True,
                    out=out,
                )
            )
        except MecsimError as error:
            print(f"{learner} {settings} seed {seed}: {error}", file=sys.stderr)
            return float("nan")
    return float(found["validation_reward"])


def scores(jobs: Sequence[tuple[str, dict[str, Any], int]]) -> list[float]:
    """Train for all jobs, two at a time."""
    return list(Parallel(n_jobs=2)(delayed(score)(*job) for job in jobs))


def tune(learner: str) -> list[dict[str, Any]]:
    """Return a row for each training of the search."""
    trials = list(settings_of(learner))
    rows = []
    chosen = list(range(TRIALS))
    for seeds in (FIRST, MORE):
        jobs = [(learner, trials[trial], seed) for trial in chosen for seed in seeds]
        found = scores(jobs)
        numbers = [trial for trial in chosen for _ in seeds]
        for trial, (_, settings, seed), reward in zip(numbers, jobs, found, strict=True):
            text = json.dumps(settings, sort_keys=True)
            rows.append(
                {
                    "learner": learner,
                    "trial": trial,
                    "seed": seed,
                    "reward": reward,
                    "settings": text,
                }
            )
        means = {
            trial: np.mean([r["reward"] for r in rows if r["trial"] == trial]) for trial in chosen
        }
        chosen = sorted(chosen, key=lambda trial: -np.nan_to_num(means[trial], nan=-1e99))[
            :FINALISTS
        ]
    best = max(
        chosen, key=lambda trial: np.mean([r["reward"] for r in rows if r["trial"] == trial])
    )
    print(learner, "best:", best, trials[best], [r["reward"] for r in rows if r["trial"] == best])
    return rows


def main(learners: Sequence[str]) -> None:
    """Search for some learners and write the record."""
    path = Path("results/tuning.csv")
    known = list(csv.DictReader(path.open())) if path.exists() else []
    for learner in learners:
        rows = [row for row in known if row["learner"] != learner] + tune(learner)
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["learner", "trial", "seed", "reward", "settings"])
            writer.writeheader()
            writer.writerows(rows)
        known = rows


if __name__ == "__main__":
    main(sys.argv[1:] or list(GRIDS))
