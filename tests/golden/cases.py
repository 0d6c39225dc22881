"""What the goldens are made of: scenarios, overrides, schedulers, trainings.

All names of scenario keys, schedulers and options are in this file; if one is renamed, rename it
here. The goldens themselves must not change by that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SEEDS: Final = (0, 1)
SCHEDULERS: Final = ("greedy", "rpdi", "fixed")
LOADED: Final = "vgg16_loaded"
"""Runs of it are sensitive: its slots overlap, so a fault in one slot shows in all later ones."""


@dataclass(frozen=True)
class Case:
    """A scenario with overrides, run under every scheduler and seed."""

    name: str
    scenario: str
    overrides: tuple[str, ...]
    servers: int = 4
    on_simpy: bool = False
    """Whether the simpy kernel runs it, too; it has to give the same."""
    blocks: int = 6

    def placement(self) -> list[int]:
        """Return the placement of the scheduler ``fixed``: a mixture of device and servers."""
        return [m % (self.servers + 1) for m in range(self.blocks)]


def _variant(name: str, *overrides: str, slots: int = 8, on_simpy: bool = False) -> Case:
    return Case(name, LOADED, (f"slots={slots}", *overrides), on_simpy=on_simpy)


# fmt: off
SHIPPED: Final = (
    Case("alexnet", "alexnet", ("slots=4",)),
    Case("bursty", "bursty", ("slots=12",), on_simpy=True),
    Case("city", "city",
         ("slots=2", "edge_servers=49", "devices=300", "arrivals.rate=120"), servers=49),
    Case("metro", "metro",
         ("slots=2", "edge_servers=100", "devices=300", "arrivals.rate=120"), servers=100),
    Case("nin", "nin", ("slots=4",)),
    Case("resnet32", "resnet32", ("slots=4",)),
    Case("small_battery", "small_battery", ("slots=12",)),
    Case("testbed", "testbed", ("slots=12",), servers=1, blocks=3),
    Case("vgg16_224", "vgg16_224", ("slots=12",)),
    Case("vgg16_4es", "vgg16_4es", ("slots=4",), on_simpy=True),
    Case("vgg16_loaded", "vgg16_loaded", ("slots=12",), on_simpy=True),
)
VARIANTS: Final = (
    _variant("loaded_alexnet", "dnn.model=alexnet", slots=12),
    _variant("loaded_nin", "dnn.model=nin", slots=12),
    _variant("loaded_resnet32", "dnn.model=resnet32", "dnn.cut=balanced", slots=12),
    _variant("task_epochs", "decision_epoch=per_task", slots=4, on_simpy=True),
    _variant("deterministic", "arrivals={process: deterministic, rate: 37.5}"),
    _variant("poisson", "arrivals={process: poisson, rate: 60}"),
    _variant("mmpp", "arrivals={process: mmpp, rates: [20, 200], mean_dwell: [2 s, 1 s]}"),
    _variant("rayleigh", "radio.fading=rayleigh"),
    _variant("drawn_rates", "radio.rate={uniform: [5 Mbit/s, 20 Mbit/s]}"),
    _variant("rates_drawn_once", "radio.rate={uniform: [5 Mbit/s, 20 Mbit/s], redraw: run}"),
    _variant("drawn_capacities", "edge_server.capacity={uniform: [12 GHz, 18 GHz]}",
             "device.capacity={uniform: [0.5 GHz, 2 GHz]}"),
    _variant("sizes_per_task", "size_factor={distribution: lognormal, sigma: 0.5, per: task}"),
    _variant("sizes_per_block", "size_factor={distribution: exponential, per: block}"),
    _variant("return_result", "return_result=true"),
    _variant("cores", "edge_server.cores=3", "arrivals.rate=150", slots=4),
    _variant("line", "wired={topology: line, rate: 100 Mbit/s, latency: 2 ms}"),
    _variant("empty_batteries", "device.battery=5 J", on_simpy=True),
    _variant("mixture", "decision_epoch=per_task", "arrivals={process: poisson, rate: 60}",
             "radio.fading=rayleigh",
             "size_factor={distribution: lognormal, sigma: 0.5, per: block}",
             "return_result=true", "edge_server.cores=2",
             "wired={topology: ring, rate: 100 Mbit/s, latency: 2 ms}", "device.battery=2 J",
             slots=4, on_simpy=True),
)
# fmt: on
CASES: Final = {case.name: case for case in (*SHIPPED, *VARIANTS)}

LEARNERS: Final = ("mtl-a3c", "a3c", "dqn")
LOADS: Final = {"default": ("slots=60",), "light": ("slots=60", "arrivals.rate=30")}
"""A training keeps its best policy, which may be the untrained one: so each learner has two loads,
and under one of them at least its policy gets better."""
PAPER: Final = "paper"
"""The preset of learners that learn after each episode, in stacks (Algorithm 1)."""
PAPER_OVERRIDES: Final = ("slots=60",)
TRAININGS: Final = (
    *((learner, load) for learner in LEARNERS for load in LOADS),
    ("mtl-a3c", PAPER),
    ("dqn", PAPER),
)
QUICK_TRAININGS: Final = (("mtl-a3c", PAPER), ("a3c", "light"), ("dqn", "default"))
"""Those that are compared at each commit; the others are slow tests."""
TRAINING: Final = ("--serial", "--episodes", "20", "--seed", "0")


def run_arguments(case: Case, scheduler: str, seed: int, kernel: str, out: str) -> list[str]:
    """Return the command line of a run."""
    arguments = ["run", f"scenarios/{case.scenario}.yaml", "--scheduler", scheduler]
    arguments += ["--seed", str(seed), "--kernel", kernel, "--out", out, "--json"]
    if scheduler == "fixed":
        arguments += ["--option", f"placement={case.placement()}"]
    for override in case.overrides:
        arguments += ["--set", override]
    return arguments


def training_arguments(learner: str, load: str, out: str) -> list[str]:
    """Return the command line of a training under a load, or of the preset in its scenario."""
    scenario, overrides = (LOADED, LOADS[load]) if load != PAPER else ("vgg16_4es", PAPER_OVERRIDES)
    arguments = ["train", f"scenarios/{scenario}.yaml", "--scheduler", learner, *TRAINING]
    for override in overrides:
        arguments += ["--set", override]
    if load == PAPER:
        arguments += ["--preset", PAPER]
    return [*arguments, "--out", out, "--json"]
