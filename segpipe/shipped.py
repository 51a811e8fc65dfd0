"""Finds the pipelines and example configs that come with segpipe, in a checkout or installed."""

from pathlib import Path

HERE = Path(__file__).parent


def shipped_folder(kind: str) -> Path:
    """Return the folder of the shipped ``pipelines`` or ``configs``."""
    installed = HERE / kind
    return installed if installed.is_dir() else HERE.parent / kind


def shipped(kind: str, name: str) -> Path:
    """Return the path that a shipped file of this name has, whether it exists or not."""
    return shipped_folder(kind) / f"{name}.yaml"


def shipped_names(kind: str) -> list[str]:
    """Return the names of all that ship."""
    return sorted(path.stem for path in shipped_folder(kind).glob("*.yaml"))
