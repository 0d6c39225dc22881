"""Event files for TensorBoard; needs tensorboardX."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mecsim.errors import OutputError


class EventFile:
    """Scalars of a training, for ``tensorboard --logdir``.

    Args:
        folder: Folder of the event file; it is made if missing.

    Raises:
        OutputError: The file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        from tensorboardX import SummaryWriter  # noqa: PLC0415 - an extra, as training is

        try:
            self._writer: Any = SummaryWriter(str(folder))
        except OSError as error:
            raise OutputError(f"{folder}: cannot be written: {error.strerror}") from error

    def add(self, measures: Mapping[str, float], episode: int, wall_s: float) -> None:
        """Add the measures of an episode; ``wall_s`` is the wall time since training began."""
        for name, value in measures.items():
            self._writer.add_scalar(name, value, episode)
        self._writer.add_scalar("wall_s", wall_s, episode)

    def close(self) -> None:
        """Write the remaining scalars and close the file."""
        self._writer.close()
