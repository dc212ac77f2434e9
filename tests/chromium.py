"""Headless Chromium, driven by selenium."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

REQUIRED = "M2A_REQUIRE_BROWSER"
"""The environment variable under which a missing browser is a failure: CI sets it."""

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def open_chromium(profile: Path):
    """Opens a window of 1000 × 800 pixels that notes its requests and its console.

    The test is skipped, or fails if `M2A_REQUIRE_BROWSER` is set, where there is no Chromium.
    """
    try:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service
    except ImportError:
        _missing("selenium")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    chromedriver = shutil.which("chromedriver")
    if not chromium or not chromedriver:
        _missing("Chromium's driver" if chromium else "Chromium")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, "--window-size=1000,800", f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # With both paths given, selenium looks for neither on the network.
    return webdriver.Chrome(options=options, service=Service(chromedriver))


def _missing(what: str) -> NoReturn:
    message = f"{what} is not installed: the page was not opened in a browser"
    if os.environ.get(REQUIRED):
        pytest.fail(f"{message}, but {REQUIRED} is set")
    pytest.skip(message)
