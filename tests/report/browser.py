"""A headless Chromium for tests and pictures of reports."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

FLAGS: Final = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-extensions", "--disable-dev-shm-usage", "--hide-scrollbars",
)  # fmt: skip
LOAD_S: Final = 120.0
"""Patience with a page that loads, on a machine that does other things as well."""


def missing() -> str | None:
    """Return why there is no browser, or None."""
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            return f"needs {program}. Try: apt-get install chromium chromium-driver"
    return None


def start(profile: Path) -> Chrome:
    """Start Chromium with a new profile; its console and network are logged."""
    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return Chrome(options=options, service=Service(shutil.which("chromedriver")))


def size(browser: Chrome, width: int, height: int) -> None:
    """Set the size of the page, not of the window; a narrow one is that of a phone."""
    phone = width < 500
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": phone})
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone},
    )


def scheme(browser: Chrome, name: str) -> None:
    """Prefer the ``light`` or the ``dark`` colour scheme."""
    feature = {"name": "prefers-color-scheme", "value": name}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


def load(browser: Chrome, page: Path) -> None:
    """Open a report and wait until its figures are drawn."""
    browser.get(page.resolve().as_uri())
    WebDriverWait(browser, LOAD_S, 0.05).until(
        lambda it: it.execute_script("return 'ready' in document.documentElement.dataset")
    )


def logged(browser: Chrome, kind: str) -> list[dict[str, str]]:
    """Return what the ``browser`` (its console) or ``performance`` (its network) has logged."""
    found: list[dict[str, str]] = browser.get_log(kind)  # type: ignore[no-untyped-call]
    return found
