"""Learning rates with per-task decisions: `python -m tests.benchmarks.tune_tasks`.

Each learner is trained with four rates and two seeds, the actors also with policies that take the
most probable placement instead of a sampled one. Writes results/tuning_tasks.csv.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, Final

from joblib import Parallel, delayed

from tests.benchmarks.tune import score

CHANGES: Final = ("decision_epoch=per_task", "slots=60")
EPISODES: Final = 60
SEEDS: Final = (0, 1)
RATES: Final = {
    "mtl-a3c": ("actor_learning_rate", [2e-4, 5e-4, 2e-3, 5e-3]),
    "a3c": ("actor_learning_rate", [4e-4, 1e-3, 2e-3, 5e-3]),
    "dqn": ("learning_rate", [3e-4, 1e-3, 3e-3, 1e-2]),
}


def trials() -> list[tuple[str, dict[str, Any]]]:
    """Return learners with their settings."""
    found: list[tuple[str, dict[str, Any]]] = [
        (learner, {name: rate}) for learner, (name, rates) in RATES.items() for rate in rates
    ]
    greedy = [
        (learner, settings | {"sample_actions": "never"})
        for learner, settings in found
        if learner != "dqn"
    ]
    return found + greedy


def main() -> None:
    """Train all, write the record and print it."""
    jobs = [(learner, settings, seed) for learner, settings in trials() for seed in SEEDS]
    rewards = Parallel(n_jobs=2)(
        delayed(score)(*job, episodes=EPISODES, changes=CHANGES) for job in jobs
    )
    with Path("results/tuning_tasks.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["learner", "settings", "seed", "reward"])
        for (learner, settings, seed), reward in zip(jobs, rewards, strict=True):
            writer.writerow([learner, json.dumps(settings), seed, reward])
            print(learner, settings, seed, round(reward))


if __name__ == "__main__":
    main()
