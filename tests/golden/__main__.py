"""`python -m tests.golden`: computes and rewrites all goldens."""

from __future__ import annotations

import argparse
import json
import sys

from tests.golden import goldens


def main() -> None:
    """Write the goldens, or print those of a kind, computed in this process."""
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description=__doc__)
    kinds = (goldens.RUNS, goldens.TRAININGS, goldens.QUICK_TRAININGS)
    parser.add_argument("--print", choices=kinds, dest="what")
    what = parser.parse_args().what
    if what:
        sys.stdout.write(json.dumps(goldens.compute_here(what)))
        return
    for kind in (goldens.RUNS, goldens.TRAININGS):
        for name, records in goldens.compute(kind).items():
            goldens.write(name, records)
            sys.stdout.write(f"{goldens.path_of(name)}\n")


if __name__ == "__main__":
    main()
