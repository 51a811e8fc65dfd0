"""The architecture, as tests: which way imports run, by which doors libraries enter, how long a file may be."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from segpipe.config import Config
from segpipe.core.stage import Stage
from segpipe.stages import STAGES

ROOT = Path(__file__).parent.parent / "segpipe"
SOURCES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))
LONGEST = 350

FLOORS = (
    {"core", "shipped"},
    {"imaging", "nets", "score", "tracking", "latest"},
    {"dataset"},
    {"quality"},
    {"learn", "predict", "report", "starter"},
    {"stages"},
    {"config"},
    {"steps"},
    {"pipeline", "verify"},
    {"terminal", "study", "compare", "scoring"},
    {"options"},
    {"judging"},
    {"cli"},
    {"__main__"},
)
"""Rooms, from the ground up: a room may use what lies on floors below, and itself. Rooms of one floor are strangers."""
LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}

DOORS = {
    "nibabel": {"imaging/files.py"},
    "SimpleITK": {"imaging/files.py"},
    "mlflow": {"tracking.py"},
    "monai": {"score/surface.py"},
    "torch": {
        "nets/*.py",
        "learn/*.py",
        "learn/objectives/*.py",
        "predict/*.py",
        "stages/train.py",
        "stages/pretrain.py",
    },
    "safetensors": {"nets/checkpoint.py"},
    "yaml": {"config.py", "steps.py", "cli.py", "study/settings.py", "scoring/names.py"},
    "typer": {"cli.py", "judging.py", "options.py"},
    "rich": {"terminal.py"},
    "jinja2": {"report/*.py"},
    "markupsafe": {"report/*.py"},
    "PIL": {"report/*.py", "imaging/pictures.py"},
    "tifffile": {"imaging/tiff.py"},
    "skimage": {"report/*.py", "score/*.py"},
    "scipy": {"imaging/*.py", "score/*.py", "report/*.py", "quality/*.py", "dataset/phantom.py"},
    "multiprocessing": {"core/parallel.py"},
    "albumentations": {"learn/augment_albumentations.py"},
    "cv2": {"learn/augment_albumentations.py"},
}
"""The files by which a library may enter. What is not listed here (numpy, pydantic) may enter anywhere."""
EVERYWHERE = {"numpy", "pydantic"}
HEAVY = {"mlflow", "monai", "SimpleITK", "torch", "scipy", "jinja2"}
LATE = {"mlflow", "monai", "SimpleITK", "tifffile", "albumentations", "cv2"}
"""Libraries that take seconds to load: imported inside the function that needs them."""


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(), str(path))


def imports(path: Path, *, top_only: bool = False) -> Iterator[str]:
    """Yield the dotted name of every module that a file imports, also inside of functions."""
    nodes = tree(path).body if top_only else ast.walk(tree(path))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if is_module(submodule) else node.module


def is_module(name: str) -> bool:
    if not name.startswith("segpipe."):
        return False
    place = ROOT.parent / name.replace(".", "/")
    return place.is_dir() or place.with_suffix(".py").is_file()


def module(path: Path) -> str:
    parts = ("segpipe", *path.with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def own_imports(path: Path) -> set[str]:
    return {name for name in imports(path) if name.startswith("segpipe.") and name != module(path)}


def room(name: str) -> str:
    """Return the room in which a module lies: the second part of its dotted name."""
    return name.split(".")[1]


def inner(path: Path) -> bool:
    return path != Path("__init__.py")


def foreign(path: Path) -> set[str]:
    names = {name.partition(".")[0] for name in imports(path)}
    return {name for name in names if name != "segpipe" and name not in sys.stdlib_module_names} | (names & set(DOORS))


def test_every_room_stands_on_a_floor() -> None:
    rooms = {room(module(path)) for path in SOURCES if inner(path)}
    assert rooms == set(LEVEL)


@pytest.mark.parametrize("path", [path for path in SOURCES if inner(path)], ids=str)
def test_imports_run_down(path: Path) -> None:
    here = room(module(path))
    for name in own_imports(path):
        there = room(name)
        assert there == here or LEVEL[there] < LEVEL[here], f"{here} may not import {there} ({path}: {name})"


@pytest.mark.parametrize("here", sorted({path.parts[0] for path in SOURCES if len(path.parts) > 1}))
def test_there_is_no_circle_inside_a_room(here: str) -> None:
    inside = {module(path): own_imports(path) for path in SOURCES if path.parts[0] == here}
    left = {name: {other for other in others if other in inside} for name, others in inside.items()}
    while free := [name for name, others in left.items() if not others]:
        for name in free:
            del left[name]
        left = {name: others - set(free) for name, others in left.items()}
    assert not left, f"these import each other in a circle: {sorted(left)}"


def test_stages_do_not_know_each_other() -> None:
    for path in SOURCES:
        if path.parts[0] == "stages" and path.name != "__init__.py":
            assert not {name for name in own_imports(path) if room(name) == "stages"}, path


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_libraries_enter_by_their_doors(path: Path) -> None:
    for name in foreign(path) - EVERYWHERE:
        assert name in DOORS, f"{path}: {name} has no door yet; list it in tests/test_house.py"
        assert any(path.match(door) for door in DOORS[name]), f"{path}: {name} may enter by {sorted(DOORS[name])} only"


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_heavy_doors_open_late(path: Path) -> None:
    early = {name.partition(".")[0] for name in imports(path, top_only=True)}
    assert not early & LATE, f"{path}: import it inside the function"


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_a_file_is_short(path: Path) -> None:
    lines = len((ROOT / path).read_text().splitlines())
    assert lines <= LONGEST, f"{path}: {lines} lines. A file that wants to pass {LONGEST} is two files."


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_a_file_opens_with_one_line_that_says_what_it_is_for(path: Path) -> None:
    source = (ROOT / path).read_text()
    if not source and path.name == "__init__.py":
        return  # an empty one only marks the folder
    text = ast.get_docstring(tree(path))
    assert text, f"{path}: no docstring"
    first = source.splitlines()[0]
    assert first.startswith('"""'), f"{path}: the docstring is the first line"
    assert text.splitlines()[0].endswith("."), f"{path}: the first line is a sentence: {first}"
    rest = text.splitlines()[1:]
    assert not rest or not rest[0], f"{path}: one line, then a blank one"


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_names_say_what_a_file_holds(path: Path) -> None:
    assert path.stem not in {"utils", "helpers", "common", "constants", "manager", "misc"}


@pytest.mark.parametrize("stage", list(STAGES.values()), ids=list(STAGES))
def test_settings_of_a_stage_are_sections_of_the_configuration(stage: Stage[Any]) -> None:
    for name, field in stage.settings.model_fields.items():
        assert name in Config.model_fields, f"Config has no section '{name}'"
        assert field.annotation == Config.model_fields[name].annotation
        assert field.metadata == Config.model_fields[name].metadata


@pytest.mark.parametrize("stage", list(STAGES.values()), ids=list(STAGES))
def test_a_stage_names_only_stages_that_there_are(stage: Stage[Any]) -> None:
    order = list(STAGES)
    for name in stage.needs:
        assert order.index(name) < order.index(stage.name)
    assert set(stage.may_use) <= set(STAGES)


def test_every_section_of_the_configuration_but_run_reaches_a_stage() -> None:
    used = {name for stage in STAGES.values() for name in stage.settings.model_fields}
    assert set(Config.model_fields) - used == {"run"}


def loaded_by(statement: str) -> set[str]:
    look = f"import sys\n{statement}\nprint(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_a_deployed_model_needs_no_training_library() -> None:
    loaded = loaded_by("import segpipe.predict.segmenter, segpipe.predict.batch")
    assert "segpipe.predict.segmenter" in loaded
    assert "torch" in loaded
    rooms = {name.split(".")[1] for name in loaded if name.startswith("segpipe.")}
    assert not rooms & {"learn", "stages", "tracking", "config", "pipeline", "report", "score"}
    assert not loaded & {"mlflow", "monai", "albumentations", "matplotlib", "SimpleITK", "skimage", "jinja2"}


@pytest.mark.parametrize("name", ["segpipe", "segpipe.cli", "segpipe.core.store", "segpipe.shipped"])
def test_light_modules_stay_light(name: str) -> None:
    assert not loaded_by(f"import {name}") & HEAVY


def test_the_configuration_loads_no_library_that_takes_seconds() -> None:
    assert not loaded_by("import segpipe.config") & {"mlflow", "monai", "SimpleITK", "matplotlib"}
