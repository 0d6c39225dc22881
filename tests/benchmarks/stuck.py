"""Share of trainings that get stuck, by learning rate: `python -m tests.benchmarks.stuck`.

Every setting is trained with many seeds on the default scenario, with parallel workers. Adds
missing trainings to results/stuck.csv and prints a line a setting: the number of trainings, the
number that ended more than 2% below the best of all, and their mean reward.
"""

from __future__ import annotations

import csv
import json
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any, Final, TypeAlias

from mecsim.learning import TrainingRequest
from mecsim.learning.training import train
from mecsim.scenario.loading import load

Setting: TypeAlias = tuple[str, int, int, str]
"""Learner, episodes, workers, options as JSON."""

RECORD: Final = Path("results/stuck.csv")
COLUMNS: Final = ("learner", "episodes", "workers", "settings", "seed", "reward")
STUCK: Final = 1.02
"""Times the best reward (rewards are negative)."""
PLANS: Final[list[tuple[str, int, int, dict[str, Any], int]]] = [
    ("mtl-a3c", 400, 2, {"actor_learning_rate": 5e-4}, 12),
    ("mtl-a3c", 400, 4, {"actor_learning_rate": 5e-4}, 12),
    ("mtl-a3c", 400, 2, {"actor_learning_rate": 5e-4, "mutated_share": 0.25}, 16),
    ("mtl-a3c", 400, 2, {"actor_learning_rate": 5e-4, "ent_coef": 0.05}, 16),
    (
        "mtl-a3c",
        400,
        2,
        {"actor_learning_rate": 5e-4, "epsilon_start": 0.1, "epsilon_end": 0.01},
        16,
    ),
    ("mtl-a3c", 400, 2, {"actor_learning_rate": 5e-4, "elite_share": 0.05}, 16),
    ("mtl-a3c", 400, 2, {"actor_learning_rate": 2e-4, "ent_coef": 0.05}, 16),
    ("mtl-a3c", 400, 2, {"actor_learning_rate": 2e-4}, 40),
    ("mtl-a3c", 400, 4, {"actor_learning_rate": 2e-4}, 14),
    ("mtl-a3c", 40, 2, {"actor_learning_rate": 5e-4}, 6),
    ("mtl-a3c", 40, 2, {"actor_learning_rate": 2e-4}, 5),
    ("mtl-a3c", 60, 2, {"actor_learning_rate": 2e-4}, 6),
    ("mtl-a3c", 100, 2, {"actor_learning_rate": 5e-4}, 6),
    ("mtl-a3c", 100, 2, {"actor_learning_rate": 2e-4}, 6),
    ("a3c", 400, 2, {"actor_learning_rate": 1e-3}, 12),
    ("a3c", 400, 2, {"actor_learning_rate": 4e-4}, 12),
    ("a3c", 100, 2, {"actor_learning_rate": 1e-3}, 6),
    ("a3c", 100, 2, {"actor_learning_rate": 4e-4}, 6),
    ("dqn", 400, 2, {"learning_rate": 3e-4}, 12),
    ("dqn", 400, 2, {"learning_rate": 1.2e-4}, 12),
]
"""Learner, episodes, workers, options, seeds."""


def read() -> dict[Setting, dict[int, float]]:
    """Return the recorded rewards by setting and seed."""
    found: dict[Setting, dict[int, float]] = defaultdict(dict)
    if RECORD.exists():
        with RECORD.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                setting = row["learner"], int(row["episodes"]), int(row["workers"]), row["settings"]
                found[setting][int(row["seed"])] = float(row["reward"])
    return found


def reward(setting: Setting, seed: int) -> float:
    """Train once; return the reward of the best policy on validation seeds."""
    learner, episodes, workers, options = setting
    with tempfile.TemporaryDirectory() as folder:
        request = TrainingRequest(
            scenario=load("scenarios/vgg16_loaded.yaml"),
            scheduler=learner,
            options=json.loads(options),
            episodes=episodes,
            seed=seed,
            workers=workers,
            out=Path(folder, "policy.safetensors"),
        )
        found = train(request)
    return float(found["validation_reward"])


def main() -> None:
    """Run the missing trainings and print the record."""
    known = read()
    if not RECORD.exists():
        RECORD.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    for learner, episodes, workers, options, seeds in PLANS:
        setting = learner, episodes, workers, json.dumps(options, sort_keys=True)
        for seed in sorted(set(range(seeds)) - set(known[setting])):
            known[setting][seed] = reward(setting, seed)
            with RECORD.open("a", newline="", encoding="utf-8") as file:
                csv.writer(file, lineterminator="\n").writerow(
                    [*setting, seed, known[setting][seed]]
                )
    best = max(reward for rewards in known.values() for reward in rewards.values())
    for setting, rewards in known.items():
        stuck = sum(reward < STUCK * best for reward in rewards.values())
        mean = sum(rewards.values()) / len(rewards)
        print(*setting, f"{stuck} of {len(rewards)} stuck, mean reward {mean:.0f}")


if __name__ == "__main__":
    main()
