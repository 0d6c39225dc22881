"""The scenario files that come with mecsim."""

from __future__ import annotations

from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parents[2] / "scenarios"
FILES: Final = sorted(FOLDER.rglob("*.yaml"))
DEPLOYMENTS: Final = [
    *sorted(FOLDER.glob("bench/*.yaml")),
    FOLDER / "lab.yaml",
    FOLDER / "melbourne.yaml",
]
"""Scenarios with groups, classes, failures or mobility: `tests/simulation/test_deployments.py`."""
SIMPLE: Final = [path for path in FILES if path not in DEPLOYMENTS]
"""Scenarios with equal devices and one class of tasks."""
