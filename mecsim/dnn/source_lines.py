"""Lines of the text files that profiles are imported from."""

from __future__ import annotations

from pathlib import Path

from mecsim.errors import ProfileError


def numbered_lines(path: Path | str) -> list[tuple[int, str]]:
    """Return the lines of a file that are not blank, each with its number from 1.

    Raises:
        ProfileError: If the file cannot be read, or is no text in UTF-8.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ProfileError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ProfileError(f"{path}: is no text in UTF-8 (byte {error.start})") from error
    return [(n, line) for n, line in enumerate(text.splitlines(), start=1) if line.strip()]


def amount(where: str, text: str) -> float:
    """Return a finite number that is at least 0.

    Args:
        where: File, line and key, for the message.
        text: The number.

    Raises:
        ProfileError: If it is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ProfileError(f"{where}: {text!r} should be a number of at least 0")
    return value
