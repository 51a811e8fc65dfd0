"""The data table and the limitations: what they say is what the cases are."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from report_artifacts import Made

from segpipe.core.stage import Inputs
from segpipe.dataset.manifest import Case
from segpipe.report.data_table import data_table, sites_of, spread
from segpipe.report.failures import failure
from segpipe.report.limitations import limitations
from segpipe.report.material import Material, read_material
from segpipe.report.scores import Scores
from segpipe.report.study import StudyConfig


@pytest.fixture(scope="module")
def material(whole: Made) -> Material:
    return read_material(Inputs(whole.artifacts), whole.source.source.folder)


def with_covariates(material: Material, values: list[Mapping[str, str]]) -> Material:
    cases = [
        case.model_copy(update={"covariates": dict(values[number % len(values)])})
        for number, case in enumerate(material.dataset.cases)
    ]
    return replace(material, dataset=replace(material.dataset, cases=tuple(cases)))


def row(material: Material, name: str) -> list[str]:
    (found,) = [row["values"] for row in data_table(material)["rows"] if row["name"] == name]
    return list(found)


def test_each_part_has_its_grid_its_brightness_and_its_volumes(material: Material) -> None:
    table = data_table(material)
    assert table["parts"] == ["To develop", "Test"]
    assert row(material, "Cases") == ["6", "6"]
    assert row(material, "Spacing, right\N{EN DASH}left") == ["1.00", "1.00"]
    assert row(material, "Spacing, front\N{EN DASH}back") == ["1.20", "1.20"]
    assert row(material, "Size, right\N{EN DASH}left") == ["26", "26"]
    assert row(material, "Coarsest over finest spacing") == ["1.50", "1.50"]
    low, high = (float(part) for part in row(material, "Intensity, MRI")[0].partition("(")[2].rstrip(")").split(" to "))
    assert 100 < low < 200 < high < 600
    volumes = [case.volumes_mm3["front"] for case in material.dataset.part("test")]
    shown = row(material, "Volume of front")[1].replace("\N{NARROW NO-BREAK SPACE}", "")
    assert shown.endswith(f"({min(volumes):.0f} to {max(volumes):.0f})")


def test_covariates_are_told_without_telling_people(material: Material) -> None:
    aged = with_covariates(material, [{"age": "30", "sex": "f"}, {"age": "94", "sex": "m"}, {"age": "61", "sex": ""}])
    assert "94" not in "".join(row(aged, "age"))
    assert "90+" in "".join(row(aged, "age"))
    assert all("under 5" in text for text in row(aged, "sex"))
    assert "not known of" in "".join(row(aged, "sex"))
    many = with_covariates(material, [{"scanner": f"S{number}x"} for number in range(12)])
    assert not any("S1x" in text for text in row(many, "scanner") if "different" in text)


def test_a_spread_of_one_value_is_that_value() -> None:
    assert spread([2.0, 2.0], 2) == "2.00"
    assert spread([1.0, 2.0, 4.0], 1) == "2.0 (1.0 to 4.0)"


def test_limitations_follow_from_the_run_and_from_what_is_stated(material: Material) -> None:
    drafted = " ".join(limitations(material, StudyConfig()))
    for said in ("Only 6 subjects were tested", "no external set", "not known to the report", "one seed", "set aside"):
        assert said in drafted
    stated = StudyConfig(raters=1, sites=1, external_test=True, limitations="Phantoms only.")
    told = limitations(material, stated)
    assert told[0] == "Phantoms only."
    assert "All images come from one institution." in told
    assert any("drawn by one rater" in one for one in told)
    assert not any("no external set" in one for one in told)


def test_thick_slices_and_small_structures_are_limitations(material: Material) -> None:
    def thick(case: Case) -> Case:
        return case.model_copy(update={"affine": ((0.5, 0, 0, 0), (0, 0.5, 0, 0), (0, 0, 5.0, 0), (0, 0, 0, 1))})

    cases = tuple(thick(case) for case in material.dataset.cases)
    told = " ".join(limitations(replace(material, dataset=replace(material.dataset, cases=cases)), StudyConfig()))
    assert "anisotropic (the coarsest axis 10.0 times the finest)" in told
    assert "are small beside the voxels" in " ".join(limitations(material, StudyConfig()))


def test_sites_are_counted_where_a_column_names_them(material: Material) -> None:
    assert sites_of(material.dataset.cases) is None
    assert sites_of(with_covariates(material, [{"Site": "A"}, {"Site": "B"}]).dataset.cases) == 2


@pytest.mark.parametrize(
    ("dice", "sensitivity", "precision", "volumes", "said"),
    [
        (0.95, 0.95, 0.95, (10, 10), ""),
        (0.0, 0.0, float("nan"), (10, 0), "liver missed"),
        (0.0, float("nan"), 0.0, (0, 10), "liver drawn where there is none"),
        (0.6, 0.45, 0.9, (10, 5), "55 % of liver missing"),
        (0.6, 0.9, 0.45, (10, 20), "55 % of what is drawn as liver lies outside"),
        (0.6, 0.6, 0.6, (10, 10), "liver displaced (sensitivity 0.60, precision 0.60)"),
        (0.02, 0.02, 0.02, (10, 10), "hardly any of liver where it is"),
    ],
)
def test_each_kind_of_error_has_its_words(
    dice: float, sensitivity: float, precision: float, volumes: tuple[float, float], said: str
) -> None:
    figures = {"dice": dice, "sensitivity": sensitivity, "precision": precision}
    figures |= dict(zip(("vol_ref_mm3", "vol_pred_mm3"), map(float, volumes), strict=True))
    values = {("liver", metric): {"a": value} for metric, value in figures.items()}
    scores = Scores(("a",), ("liver",), tuple(figures), values, {})
    assert failure(scores, "a").replace("\N{NARROW NO-BREAK SPACE}", " ") == said
