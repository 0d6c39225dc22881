"""The git commit of a file, for records of where results come from."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TypedDict

_GIT = "git"
_SECONDS = 20
"""Longest time that git may take."""


class Commit(TypedDict):
    """A commit of a checkout."""

    commit: str
    modified: bool
    """Whether tracked files differ from the commit."""


def commit_of(file: Path) -> Commit | None:
    """Return the commit of the checkout that has a file.

    None without git, and for a file that git does not track: a package that is installed inside of
    somebody's checkout is not part of it.
    """
    folder, name = str(file.parent), file.name
    if _git(folder, "ls-files", "--error-unmatch", name) is None:
        return None
    commit = _git(folder, "rev-parse", "HEAD")
    status = _git(folder, "status", "--porcelain", "--untracked-files=no")
    if commit is None or status is None:
        return None
    return {"commit": commit.strip(), "modified": bool(status.strip())}


def _git(folder: str, *arguments: str) -> str | None:
    """Return what git prints; None if it fails or is missing."""
    try:
        found = subprocess.run(
            [_GIT, "-C", folder, *arguments],
            capture_output=True, text=True, check=False, timeout=_SECONDS,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout if found.returncode == 0 else None
