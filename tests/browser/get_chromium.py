"""Install Chromium for the browser tests, by the system's packages or by playwright; says which one is there.

.venv/bin/python tests/browser/get_chromium.py
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")
LIMIT = 300  # seconds for each way


def find_chromium() -> str | None:
    """Path of a Chromium that can be started: of the system, else playwright's own."""
    there = next(filter(None, map(shutil.which, NAMES)), None)
    if there is not None:
        return there
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    return own if Path(own).exists() else None


def main() -> None:
    """Nothing where one is there; exit code 1 where none can be had."""
    ways = [[sys.executable, "-m", "playwright", "install", "chromium"]]
    if shutil.which("apt-get") and os.geteuid() == 0:
        ways = [["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "chromium"], *ways]
    for way in ways:
        if (found := find_chromium()) is not None:
            print(f"Chromium: {found}")
            return
        print(f"Chromium: trying {' '.join(way)}", flush=True)
        try:
            subprocess.run(way, timeout=LIMIT, check=False, stdout=subprocess.DEVNULL)
        except (subprocess.TimeoutExpired, OSError) as error:
            print(f"  {error}")
    if (found := find_chromium()) is None:
        sys.exit("No Chromium could be installed: the browser tests will skip.")
    print(f"Chromium: {found}")


if __name__ == "__main__":
    main()
