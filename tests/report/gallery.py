"""Make the pictures of docs/gallery.md again: ``python -m tests.report.gallery``."""

from __future__ import annotations

import base64
import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from PIL import Image

from tests.helpers.cli import mecsim
from tests.report import browser as chromium

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

ROOT: Final = Path(__file__).parents[2]
IMAGES: Final = ROOT / "docs" / "images"
COLOURS: Final = 96
PICTURES: Final = {
    "run": ("network", 1500, "light"),
    "comparison": ("metrics", 1500, "light"),
    "paper": ("fig8", 1500, "dark"),
}
"""First section, height in pixels and colour scheme of each picture."""


def make_reports(folder: Path) -> None:
    """Write the three reports, named as in ``PICTURES``."""
    trace, compared = folder / "run.h5", folder / "compared"
    mecsim("run", "vgg16_loaded", "--scheduler", "greedy", "--kernel", "compiled", "--out",
           str(trace))  # fmt: skip
    mecsim("compare", "vgg16_4es", "--schedulers", "greedy,rpdi,single-cut,apdi", "--seeds", "5",
           "--sweep", "edge_servers=2,3,4,6", "--set", "slots=100", "--no-figures", "--out",
           str(compared))  # fmt: skip
    mecsim("report", str(trace), "--out", str(folder / "run.html"))
    mecsim("report", str(compared), "--out", str(folder / "comparison.html"))
    mecsim("report", str(ROOT / "results" / "paper"), "--out", str(folder / "paper.html"))


def take(browser: Chrome, page: Path, section: str, height: int, scheme: str) -> bytes:
    """Return a picture of a page from a section on, as PNG."""
    chromium.size(browser, 1160, height)
    chromium.scheme(browser, scheme)
    chromium.load(browser, page)
    top = browser.execute_script(
        "return document.getElementById(arguments[0]).getBoundingClientRect().top", section
    )
    clip = {"x": 0, "y": top, "width": 1160, "height": height, "scale": 0.8}
    found = browser.execute_cdp_cmd(
        "Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True, "clip": clip}
    )
    return base64.b64decode(found["data"])


def main() -> None:
    """Write ``docs/images/report-*.png``."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_reports(folder)
        browser = chromium.start(folder / "profile")
        try:
            for kind, view in PICTURES.items():
                picture = Image.open(io.BytesIO(take(browser, folder / f"{kind}.html", *view)))
                few = picture.convert("RGB").quantize(COLOURS)
                few.save(IMAGES / f"report-{kind}.png", optimize=True)
        finally:
            browser.quit()


if __name__ == "__main__":
    main()
