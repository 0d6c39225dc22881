"""The known-answer suite: simulations against theory, the equations, and exact recursions.

Every answer is computed here or in :mod:`mecsim.verification.queueing`, never by the code under
test; every run is an ordinary scenario under an installed scheduler. A mean passes if it is in the
interval of independent replications (seeds 0, 1, …; the first tenth of each run, which starts
empty, is dropped). All other answers must be equal to the last bit, or to rounding where sums are
taken in another order. References are those of :mod:`mecsim.verification.queueing`; equation
numbers are those of Li et al., "Distributed DNN Inference with Fine-grained Model Partitioning in
Mobile Edge Computing Networks".
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Final

from mecsim.simulation.drive import Progress
from mecsim.verification.check import Check, Effort, Outcome
from mecsim.verification.exact_checks import exact_checks
from mecsim.verification.queueing_checks import queueing_checks

HEADER: Final = ("check", "known answer", "expected", "measured", "interval", "ok", "note")


def checks() -> list[Check]:
    """Return all checks: the exact ones, then those by intervals."""
    return [*exact_checks(), *queueing_checks()]


def run_checks(
    progress: Progress | None = None, quick: bool = False, kernel: str = "simpy"
) -> list[Outcome]:
    """Run all checks.

    Args:
        progress: Called with the checks done and the checks in all.
        quick: Use smaller samples, which give wider intervals.
        kernel: The event loop under test.
    """
    effort = Effort(10, 8_000, kernel) if quick else Effort(20, 40_000, kernel)
    todo, outcomes = checks(), []
    for check in todo:
        outcomes.append(check.outcome(effort))
        if progress is not None:
            progress(len(outcomes), len(todo))
    return outcomes


def rows(outcomes: Sequence[Outcome]) -> list[tuple[str, ...]]:
    """Return the outcomes as texts in the columns of ``HEADER``."""
    return [(o.name, o.known, *_numbers(o), "yes" if o.ok else "NO", o.note) for o in outcomes]


def _numbers(o: Outcome) -> tuple[str, str, str]:
    interval = f"{o.low:.5g} to {o.high:.5g}" if o.low < o.high else "exact"
    return f"{o.expected:.5g}", f"{o.measured:.5g}", interval


def as_markdown(outcomes: Sequence[Outcome]) -> str:
    """Return the outcomes as a Markdown table."""
    cells = [HEADER, ("---",) * len(HEADER), *rows(outcomes)]
    made_by = f"Made by `mecsim verify --out FILE` with mecsim {version('mecsim')}.\n\n"
    return f"# Known answers\n\n{made_by}" + "".join(f"| {' | '.join(row)} |\n" for row in cells)
