"""Base of every settings class: frozen, strict, and documented by the text under each field."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from segpipe.core.errors import ArtifactError

AnySection = TypeVar("AnySection", bound="Section")


class Undeciding:
    """Marks a setting that decides no result: where something lies, how often a state is saved."""


Place = Annotated[Path, Undeciding()]
"""A path in the settings. It never enters a fingerprint: moving data costs nothing."""


class Section(BaseModel):
    """One named part of the configuration: an immutable value that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    def deciding(self) -> dict[str, Any]:
        """Return the settings that decide a result, as JSON values: all but the marked ones."""
        whole = self.model_dump(mode="json")
        told = {
            name: _deciding(getattr(self, name), whole[name])
            for name, field in type(self).model_fields.items()
            if not decides_nothing(field)
        }
        # a section of which nothing decides is itself one that decides nothing
        return {name: value for name, value in told.items() if value or not isinstance(getattr(self, name), Section)}


def decides_nothing(field: FieldInfo) -> bool:
    """Tell whether a field, or each of several values in it, is marked as ``Undeciding``."""
    return any(isinstance(mark, Undeciding) for mark in field.metadata) or _marked(field.annotation)


def _marked(annotation: Any) -> bool:
    return any(isinstance(part, Undeciding) or _marked(part) for part in get_args(annotation))


def _deciding(value: Any, dumped: Any) -> Any:
    if isinstance(value, Section):
        return value.deciding()
    if isinstance(value, tuple | list):
        return [_deciding(item, raw) for item, raw in zip(value, dumped, strict=True)]
    if isinstance(value, dict):
        return {str(key): _deciding(item, dumped[str(key)]) for key, item in value.items()}
    return dumped


def members(menu: Any) -> Iterator[type[Section]]:
    """Yield the sections of a menu, ``Annotated[A | B, Field(discriminator="kind")]``."""
    options = get_args(get_args(menu)[0]) or (get_args(menu)[0],)
    yield from options


def read_section(path: Path, kind: type[AnySection], mend: str) -> AnySection | None:
    """Return a section that a JSON file holds; None where there is no such file.

    Args:
        path: Of the file.
        kind: What it holds.
        mend: What to do where it is damaged.

    Raises:
        ArtifactError: It is damaged, or from a later version.
    """
    try:
        return kind.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "JSON"
        raise ArtifactError(f"{path}: damaged ({where}: {first['msg']}). {mend}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error}). {mend}") from error
