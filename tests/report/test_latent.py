"""The chapter on pretraining: what is shown of a latent space, in which colours, and where it lies."""

import base64
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image
from report_artifacts import Made, cohort

from segpipe.core.atomic import write_array, write_json
from segpipe.core.stage import Artifact
from segpipe.dataset.manifest import Case, Dataset, DatasetHeader
from segpipe.imaging.labels import LabelSet
from segpipe.report.codemap import SHADES, code_map, colourings, legend
from segpipe.report.latent import chapter, read_latent
from segpipe.report.mosaic import mosaic, window

FIGURES = {
    "continuity_step": 0.09,
    "continuity_path": 1.25,
    "continuity_jump": 1.5,
    "completeness_held_out_precision": 0.875,
    "completeness_prior_distance": 7.5,
    "completeness_prior_precision": 0.0,
    "completeness_fitted_distance": 1.125,
    "completeness_fitted_precision": 0.75,
}
SHAPES = {
    "cases": (2, 3, 6, 5),
    "traversal": (3, 5, 6, 5),
    "interpolation": (2, 9, 6, 5),
    "samples_prior": (8, 6, 5),
    "samples_fitted": (8, 6, 5),
}


def case(number: int, volume: float | None = None, **covariates: str) -> Case:
    return Case(
        id=f"case{number}",
        subject=f"s{number}",
        part="develop",
        images=(),
        label=None,
        shape=(6, 5, 4),
        affine=tuple(tuple(row) for row in np.eye(4).tolist()),
        covariates=covariates,
        volumes_mm3={} if volume is None else {"a": volume / 2, "b": volume / 2},
    )


def dataset(*cases: Case) -> Dataset:
    header = DatasetHeader(name="x", layout="msd", channels=(), labels=LabelSet.plain({"a": 1, "b": 2}))
    return Dataset(header, cases, (), (), Path())


def write_latent(folder: Path, objective: str = "vae", cases: int = 6, **shapes: tuple[int, ...]) -> Path:
    chance = np.random.default_rng(0)
    for name, shape in (SHAPES | shapes).items():
        write_array(folder / f"{name}.npy", chance.normal(size=shape).astype(np.float16))
    points = [
        {"case": n, "part": "training" if n else "validation", "place": [float(n), float(n % 3)]} for n in range(cases)
    ]
    told = {"objective": objective, "figures": FIGURES, "through": 2, "spacing_mm": [1.0, 1.0], "map": points}
    write_json(
        folder / "latent.json",
        told | {"shares": [0.5, 0.25, 0.1], "deviations": [-2.0, -1.0, 0.0, 1.0, 2.0], "interpolation_steps": 8},
    )
    return folder


def told(folder: Path, *cases: Case) -> dict[str, Any]:
    found = chapter(read_latent(folder), dataset(*(cases or [case(n, 10.0 * n + 5) for n in range(6)])))
    assert found is not None
    return found


def pixels(svg: Markup) -> NDArray[np.uint8]:
    data = re.search(r"data:image/webp;base64,([^\"]+)", svg)
    assert data is not None
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data[1]))).convert("RGBA"))


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """All stages, and a pretraining that was looked into."""
    root = tmp_path_factory.mktemp("pretrained")
    made = cohort(root, 6).upto_evaluate()
    write_latent(root / "pretrain" / "latent", "masked", masked=(3, 3, 6, 5))
    made.artifacts["pretrain"] = Artifact("pretrain", "0" * 16, root / "pretrain", {})
    return made


class TestMosaic:
    def test_the_first_axis_runs_right_and_the_second_up(self) -> None:
        slices = np.zeros((1, 1, 8, 8), np.float16)
        slices[0, 0, 5:, 6:] = 1
        shown = pixels(mosaic(slices, (0, 1), (1, 1), 100, "a"))[..., 0]
        high, wide = shown.shape
        assert shown[: high // 8, -wide // 4 :].mean() > 150
        assert shown[high // 2 :].mean() < 10

    def test_a_slice_keeps_its_shape_in_millimetres(self) -> None:
        svg = mosaic(np.zeros((1, 1, 10, 10)), (0, 1), (1, 3), 100, "a")
        size = {name: float(value) for name, value in re.findall(r'(width|height)="([\d.]+)"', svg)}
        assert size["height"] / size["width"] == pytest.approx(3, rel=0.05)

    def test_what_lies_between_slices_is_transparent(self) -> None:
        shown = pixels(mosaic(np.ones((2, 3, 20, 20)), (0, 1), (1, 1), 300, "a"))
        clear = shown[..., 3] == 0
        assert 0 < clear.mean() < 0.15
        assert shown[~clear][:, 0].min() > 200

    def test_rows_and_columns_have_their_names_escaped(self) -> None:
        svg = mosaic(np.zeros((1, 2, 4, 4)), (0, 1), (1, 1), 300, "a", ["<b>"], ["one", "two"])
        assert "&lt;b&gt;" in svg
        assert "<b>" not in svg
        assert ">one<" in svg

    def test_the_window_leaves_out_the_rarest_values_and_is_never_empty(self) -> None:
        values = np.linspace(0, 1, 10_001)
        values[0], values[1] = -1000, np.nan
        assert window(values) == pytest.approx((0.005, 0.995), abs=1e-3)
        black, white = window(np.zeros((3, 3)))
        assert black < white


class TestColours:
    def test_shades_go_up_with_the_volume(self) -> None:
        found = colourings([case(n, 100.0 + n) for n in range(10)], 3)[0]
        shades = [found.of[f"case{n}"] for n in range(10)]
        assert shades == sorted(shades)
        assert len(set(shades)) == SHADES
        assert found.names["q0"] == "100 to 102\N{NARROW NO-BREAK SPACE}mm³"
        assert "area" in colourings([case(n, 100.0 + n) for n in range(10)], 2)[0].title

    def test_a_covariate_is_a_map_of_its_own(self) -> None:
        volume, site = colourings([case(n, n + 1.0, site="AB"[n % 2]) for n in range(4)], 3)
        assert "volume" in volume.title
        assert site.title == "site"
        assert site.names == {"s0": "A", "s1": "B"}
        assert site.of == {"case0": "s0", "case1": "s1", "case2": "s0", "case3": "s1"}

    def test_a_covariate_of_numbers_is_graded(self) -> None:
        (age,) = colourings([case(n, age=str(20 + 10 * n)) for n in range(6)], 3)
        assert age.of["case0"] == "q0"
        assert age.of["case5"] == "q4"

    @pytest.mark.parametrize("values", [["A"] * 12, [f"name{n}" for n in range(12)]])
    def test_what_is_the_same_or_another_in_every_case_is_no_colour(self, values: list[str]) -> None:
        assert colourings([case(n, site=value) for n, value in enumerate(values)], 3) == []

    def test_a_case_without_labels_is_an_empty_dot(self) -> None:
        cases = [case(0), *[case(n, float(n)) for n in range(1, 4)]]
        points = [{"case": n, "part": "training", "place": [n, n]} for n in range(4)]
        (colouring,) = colourings(cases, 3)
        svg = code_map(points, cases, colouring, [0.5, 0.2])
        assert svg.count("<circle") == 4
        assert svg.count("code unknown") == 1
        assert "not known" in legend(colouring, unknown=True)


class TestChapter:
    def test_every_picture_has_its_place(self, tmp_path: Path) -> None:
        found = told(write_latent(tmp_path))
        assert [panel["title"] for panel in found["panels"]] == [
            "Reconstructions", "Traversals", "Samples", "Interpolations",
        ]  # fmt: skip
        assert [panel["wide"] for panel in found["panels"]] == [False, False, True, True]
        assert "variational autoencoder" in found["lead"]
        assert "axial" in found["lead"]
        assert "direction 1 (50" in found["panels"][1]["svg"]

    def test_a_masked_objective_shows_its_triple_and_says_that_it_has_no_prior(self, tmp_path: Path) -> None:
        panels = told(write_latent(tmp_path, "masked", masked=(3, 3, 6, 5)))["panels"]
        assert panels[1]["title"] == "Masked"
        assert "what was left" in panels[1]["svg"]
        assert "no prior" in next(panel["note"] for panel in panels if panel["title"] == "Samples")

    def test_figures_stand_beside_each_other_with_how_to_read_them(self, tmp_path: Path) -> None:
        found = told(write_latent(tmp_path))
        assert [row["value"] for row in found["continuity"]] == ["0.090", "1.250", "1.500"]
        assert "0.125" in found["continuity"][0]["reading"]
        distance, precision = found["completeness"]
        assert (distance["prior"], distance["fitted"]) == ("7.500", "1.125")
        assert "0.875" in precision["reading"]

    def test_without_labels_and_covariates_the_map_has_no_colours(self, tmp_path: Path) -> None:
        (one,) = told(write_latent(tmp_path), *[case(n) for n in range(6)])["maps"]
        assert one["svg"].count("<circle") == 6
        assert one["svg"].count(" held") == 1

    def test_reconstructions_alone_are_a_chapter(self, tmp_path: Path) -> None:
        write_array(tmp_path / "cases.npy", np.zeros((2, 1, 4, 4), np.float16))
        write_json(tmp_path / "latent.json", {"objective": "vae", "figures": {}, "through": None, "spacing_mm": [1, 1]})
        found = told(tmp_path)
        assert len(found["panels"]) == 1
        assert found["maps"] == found["continuity"] == found["completeness"] == []

    @pytest.mark.parametrize("damage", ["latent.json", "cases.npy"])
    def test_what_is_damaged_leaves_the_chapter_out(self, tmp_path: Path, damage: str) -> None:
        (write_latent(tmp_path) / damage).write_bytes(b"{")
        assert read_latent(tmp_path) is None
        assert chapter(None, dataset()) is None

    def test_a_pretraining_that_wrote_none_has_no_chapter(self, tmp_path: Path) -> None:
        assert read_latent(tmp_path / "none") is None
        assert read_latent(None) is None


class TestPage:
    def test_the_chapter_stands_on_the_page_only_where_there_was_a_pretraining(self, pretrained: Made) -> None:
        page = pretrained.report()
        assert '<section id="pretraining">' in page
        assert 'href="#pretraining"' in page
        assert "Distance to the nearest training case" in page
        assert "pretraining" not in pretrained.report(without=("pretrain",)).split("<main>")[0].split("<nav>")[1]

    def test_its_pictures_are_inside_the_page(self, pretrained: Made) -> None:
        chapter_text = pretrained.report().split('<section id="pretraining">')[1].split("</section>")[0]
        assert chapter_text.count("data:image/webp;base64,") == 5
        assert not re.search(r"https?:|src=", chapter_text)
