"""The page as a PDF, printed by a browser that is installed: what people print looks the same."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from segpipe.core.atomic import replacing
from segpipe.core.errors import MachineError

BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "microsoft-edge",
    "msedge",
)
"""All of one family, with one way to print."""
SECONDS = 600
ADVICE = "print report.html from any browser, or leave it out with report.pdf=false"


def browser() -> str | None:
    """Return the path of a browser that can print, or None."""
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


def print_page(text: str, path: Path) -> None:
    """Print a page that asks for nothing and runs no script.

    Raises:
        MachineError: There is no browser, or it did not print.
    """
    if (program := browser()) is None:
        raise MachineError(f"there is no Chromium, Chrome or Edge on this machine. Install one, {ADVICE}.")
    with tempfile.TemporaryDirectory() as folder, replacing(path) as temporary:
        page = Path(folder) / "report.html"
        page.write_text(text, encoding="utf-8")
        printed = Path(folder) / "report.pdf"
        try:
            done = subprocess.run(
                [program, *_options(Path(folder)), f"--print-to-pdf={printed}", page.as_uri()],
                capture_output=True,
                timeout=SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise MachineError(
                f"{Path(program).name} did not print ({type(error).__name__}). You may {ADVICE}."
            ) from error
        if done.returncode or not printed.is_file():
            raise MachineError(f"{Path(program).name} did not print (exit code {done.returncode}). You may {ADVICE}.")
        shutil.copyfile(printed, temporary)


def _options(folder: Path) -> list[str]:
    options = ["--headless", "--disable-gpu", "--disable-extensions", "--no-first-run", "--no-pdf-header-footer"]
    # the page asks for nothing, and the browser shall not either: not for updates, not for names
    options += [
        "--disable-background-networking",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={folder / 'profile'}",
    ]
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    return options + (["--no-sandbox"] if root else [])  # as root it would not start; the page runs no script
