"""Tasks from CSV files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mecsim.errors import ScenarioError
from mecsim.scenario import groups
from mecsim.scenario.schema import ConstantSize, CsvTasks, ListedTasks, Scenario
from mecsim.scenario.time_series import Table, read_table
from mecsim.scenario.yaml_source import Keys
from mecsim.support.arrays import Floats, Ints
from mecsim.support.names import TRACE_ENDINGS
from mecsim.support.text import warn_once


def listed(spec: CsvTasks, scenario: Scenario, keys: Keys) -> ListedTasks:
    """Return the tasks of a file, those of one class where the file has a column ``class``.

    Raises:
        ScenarioError: The file cannot be read or is not valid; the message begins with the keys.
    """
    try:
        table = read_table(Path(spec.file))
        times = table.time_column() if spec.time is None else table.column(spec.time)
        release_s = table.times(times)
        mine = _of_class(table, scenario, keys)
        rows = mine[mine < _counted(spec, scenario, table, times, release_s)]
        device, size = table.find("device"), table.find("size")
        if device is not None:
            _check_no_weights(table, scenario, keys)
        if size is not None:
            _check_no_sizes(table, scenario, keys)
        devices = None if device is None else _devices(table, device, scenario)[rows]
        sizes = None if size is None else table.plain_numbers(size)[rows]
    except ScenarioError as error:
        remedy = ""
        if spec.file.lower().endswith(TRACE_ENDINGS):
            remedy = ". Try: `process: trace` for the tasks of a trace"
        raise ScenarioError(f"{'.'.join(map(str, keys))}.file: {error}{remedy}") from error
    if len(mine) and not len(rows):
        end = f"the last slot ends at {scenario.length_s:g} s"
        warn_once(f"{'.'.join(map(str, keys))}: {spec.file}: drops all {len(mine)} tasks; {end}")
    return ListedTasks(
        process="listed",
        release=tuple(release_s[rows].tolist()),
        devices=None if devices is None else tuple(devices.tolist()),
        sizes=None if sizes is None else tuple(sizes.tolist()),
    )


def _of_class(table: Table, scenario: Scenario, keys: Keys) -> Ints:
    """Return the rows of the class of tasks whose arrivals are at some keys."""
    column = table.find("class")
    sharing = _classes_of(table, scenario)
    if column is None:
        if len(sharing) > 1:
            problem = f"has no column 'class', and the classes {', '.join(sharing)} name it"
            remedy = "allowed: a column 'class' with their names, or a file for each"
            raise ScenarioError(f"{table.path}:1: {problem}; {remedy}")
        return np.arange(len(table.rows))
    if scenario.tasks is None:
        problem = "has a column of classes, which has no effect without tasks"
        remedy = "give a list of tasks, one of each class, or leave the column out"
        raise ScenarioError(f"{table.path}:1: {problem}; {remedy}")
    allowed = f"allowed: a class whose arrivals are this file: {', '.join(sharing)}"
    for row, cells in enumerate(table.rows):
        if cells[column].strip() not in sharing:
            raise table.fault(row, column, allowed)
    own = scenario.tasks[int(keys[1])].name
    rows = np.flatnonzero([cells[column].strip() == own for cells in table.rows])
    if not len(rows):
        remedy = "allowed: at least one row, or arrivals: {process: slotted, rate: 0} for no task"
        raise ScenarioError(f"{table.path}:1: has no row of the class {own!r}; {remedy}")
    return rows


def _classes_of(table: Table, scenario: Scenario) -> list[str]:
    """Return the names of the classes of tasks whose arrivals are a file."""
    return [
        each.name
        for each in scenario.classes
        if isinstance(each.arrivals, CsvTasks) and Path(each.arrivals.file) == table.path
    ]


def _check_no_weights(table: Table, scenario: Scenario, keys: Keys) -> None:
    """Refuse weights of devices next to a column of devices. Raises ``ScenarioError``."""
    if scenario.tasks is not None and scenario.tasks[int(keys[1])].devices:
        problem = "gives the device of each task, so weights of devices have no effect"
        remedy = f"leave {'.'.join(map(str, keys[:2]))}.devices or the column out"
        raise ScenarioError(f"{table.path}:1: {problem}; {remedy}")


def _check_no_sizes(table: Table, scenario: Scenario, keys: Keys) -> None:
    """Refuse a drawn size factor next to a column of sizes. Raises ``ScenarioError``."""
    given = scenario if scenario.tasks is None else scenario.tasks[int(keys[1])]
    if not isinstance(given.size_factor, ConstantSize):
        factor = ".".join(map(str, (*keys[:-1], "size_factor")))
        problem = f"gives the size of each task, so {factor} has no effect"
        remedy = f"leave {factor} or the column out, or give {factor}: {{distribution: constant}}"
        raise ScenarioError(f"{table.path}:1: {problem}; {remedy}")


def check_listed(scenario: Scenario) -> None:
    """Refuse listed tasks of devices that do not exist, or after the last slot.

    Raises:
        ScenarioError: The message begins with the key.
    """
    last = groups.count(scenario.devices) - 1
    for number, each in enumerate(scenario.classes):
        tasks = each.arrivals
        if not isinstance(tasks, ListedTasks):
            continue
        with scenario.in_class(number):
            if tasks.devices and max(tasks.devices) > last:
                problem = f"has a task of device {max(tasks.devices)}; allowed: 0 to {last}"
                raise ScenarioError(f"arrivals.devices: {problem}")
            if tasks.release and tasks.release[-1] >= scenario.length_s:
                latest, end = f"{tasks.release[-1]:g} s", f"{scenario.length_s:g} s"
                problem = f"has a task at {latest}; allowed: before {end} (slots × slot_length)"
                raise ScenarioError(f"arrivals.release: {problem}")


def _counted(
    spec: CsvTasks, scenario: Scenario, table: Table, times: int, release_s: Floats
) -> int:
    """Return how many tasks are released before the last slot ends."""
    count = int(np.searchsorted(release_s, scenario.length_s))
    if count < len(release_s) and spec.beyond == "error":
        allowed = f"allowed: before {scenario.length_s:g} s (slots × slot_length), or beyond: drop"
        raise table.fault(count, times, f"{release_s[count]:g} s after the start; {allowed}")
    return count


def _devices(table: Table, column: int, scenario: Scenario) -> Ints:
    """Return the device of each task: a number from 0, or a name."""
    last = groups.count(scenario.devices) - 1
    numbers = {str(number): number for number in range(last + 1)}
    if not isinstance(scenario.devices, int):
        numbers |= {name: n for n, name in enumerate(groups.names(scenario.devices, "device"))}
    found = np.empty(len(table.rows), dtype=np.int64)
    for row, cells in enumerate(table.rows):
        number = numbers.get(cells[column].strip())
        if number is None:
            raise table.fault(row, column, f"allowed: 0 to {last}, or the name of a device")
        found[row] = number
    return found
