"""What the paper leaves out of its learners, searched alike for each: `python -m ...tune_paper`.

Four settings of each learner, the rest being those of preset `paper`, ten trainings each on the
default scenario. The score of a setting is the mean reward on validation seeds. Writes
results/tuning_paper.csv and prints it.
"""

from __future__ import annotations

import csv
import json
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
from joblib import Parallel, delayed

from mecsim.errors import MecsimError
from mecsim.learning import TrainingRequest
from mecsim.learning.training import train_stack
from mecsim.scenario.loading import load

TRAININGS: Final = 10
EPISODES: Final = 400
SLOTS: Final = 32
"""Slots of an episode: as many as an update learns from."""

ENTROPY: Final[list[dict[str, Any]]] = [
    {"ent_coef": begin, "ent_coef_end": begin / 10} for begin in (0.01, 0.03, 0.1, 0.3)
]
SETTINGS: Final[dict[str, list[dict[str, Any]]]] = {
    "mtl-a3c": ENTROPY,
    "a3c": ENTROPY,
    "dqn": [
        {"target_update_interval": every, "buffer_size": size}
        for every, size in ((10, 20_000), (50, 20_000), (200, 20_000), (10, 3_200))
    ],
}


def paper_trainings(
    learner: str, seeds: range, episodes: int, options: dict[str, Any], folder: Path
) -> list[TrainingRequest]:
    """Return trainings of preset `paper` on the default scenario, which write to a folder."""
    scenario = load("vgg16_4es")
    return [
        TrainingRequest(
            scenario=scenario,
            scheduler=learner,
            out=folder / f"{seed}.safetensors",
            episodes=episodes,
            seed=seed,
            options=options,
            preset="paper",
            serial=True,
        )
        for seed in seeds
    ]


def tried(learner: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the table."""
    short = options | {"episode_slots": SLOTS}
    with tempfile.TemporaryDirectory() as folder:
        requests = paper_trainings(learner, range(TRAININGS), EPISODES, short, Path(folder))
        found = [each for each in train_stack(requests) if not isinstance(each, MecsimError)]
    rewards = np.array([each["validation_reward"] for each in found])
    return {
        "learner": learner,
        "options": json.dumps(options),
        "episodes": EPISODES,
        "trainings": len(found),
        "mean_reward": round(float(rewards.mean()), 1),
        "standard_error": round(float(rewards.std(ddof=1) / len(rewards) ** 0.5), 1),
    }


def main() -> None:
    """Try all settings and write the table."""
    trials = [(learner, each) for learner, some in SETTINGS.items() for each in some]
    rows = Parallel(n_jobs=2, verbose=5)(delayed(tried)(*trial) for trial in trials)
    with Path("results", "tuning_paper.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
