"""Settings: frozen, strict, and silent about places when they name a result."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field, PositiveInt, ValidationError

from segpipe.core.fingerprint import fingerprint
from segpipe.core.section import Place, Section, decides_nothing, members


class Inner(Section):
    """Inner."""

    where: Place = Path("/here")
    size: PositiveInt = 1
    """How large."""


class Bag(Section):
    """Things."""

    kind: Literal["bag"] = "bag"
    one: Inner = Inner()
    maybe: Inner | None = None
    many: tuple[Inner, ...] = ()
    nested: tuple[tuple[Inner, ...], ...] = ()
    named: dict[str, Inner] = Field(default_factory=dict)
    path: Place | None = None
    paths: tuple[Place, ...] = ()
    lists: tuple[Place, ...] | None = None
    places: dict[str, Place] = Field(default_factory=dict)
    plain: Path = Path("model")
    numbers: dict[int, float] = Field(default_factory=dict)


class Other(Section):
    """Another."""

    kind: Literal["other"] = "other"


def at(root: str) -> Bag:
    inner = Inner(where=Path(root), size=3)
    place = Path(root) / "x"
    return Bag(
        one=inner,
        maybe=inner,
        many=(inner, inner),
        nested=((inner,),),
        named={"a": inner},
        path=place,
        paths=(place,),
        lists=(place, place),
        places={"k": place},
        numbers={1: 0.5},
    )


def test_an_unknown_key_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match="sizes"):
        Inner.model_validate({"sizes": 3})
    with pytest.raises(ValidationError, match="oops"):
        Bag.model_validate({"many": [{"oops": 1}]})


def test_a_value_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Inner().size = 2  # type: ignore[misc]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_settings_are_numbers(bad: float) -> None:
    with pytest.raises(ValidationError):
        Bag(numbers={1: bad})


def test_the_text_under_a_field_is_its_help() -> None:
    assert Inner.model_fields["size"].description == "How large."


def test_what_decides_leaves_places_out_at_every_depth() -> None:
    assert at("/a").deciding() == at("/b").deciding()
    assert "/a" not in str(at("/a").deciding())


def test_what_decides_keeps_everything_else() -> None:
    inner = {"size": 3}
    assert at("/a").deciding() == {
        "kind": "bag",
        "one": inner,
        "maybe": inner,
        "many": [inner, inner],
        "nested": [[inner]],
        "named": {"a": inner},
        "plain": "model",
        "numbers": {"1": 0.5},
    }
    assert fingerprint(at("/a").deciding()) != fingerprint(Bag().deciding())


def test_a_place_is_known_however_it_is_wrapped() -> None:
    places = {name for name, field in Bag.model_fields.items() if decides_nothing(field)}
    assert places == {"path", "paths", "lists", "places"}


def test_a_section_comes_back_from_its_own_json() -> None:
    assert Bag.model_validate(at("/a").model_dump(mode="json")) == at("/a")


def test_a_menu_lists_its_members_also_when_it_has_one() -> None:
    assert list(members(Annotated[Bag | Other, Field(discriminator="kind")])) == [Bag, Other]
    assert list(members(Annotated[Bag, Field()])) == [Bag]
