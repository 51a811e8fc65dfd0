"""Every layout gives the same cases, and whatever cannot be read is told of in one line."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies
from phantoms import NAMES, Scan, made, prepare, rows, scan, scans, write_csv, write_folder, write_msd, write_nnunet

from segpipe.core.errors import DataError
from segpipe.core.section import Section, members
from segpipe.dataset.plan import Plan
from segpipe.dataset.sources import Source
from segpipe.dataset.sources.auto import Auto
from segpipe.dataset.sources.decathlon import Msd
from segpipe.dataset.sources.folder import Folder
from segpipe.dataset.sources.found import by_channel, safe_id
from segpipe.dataset.sources.nnunet import NnUnet
from segpipe.dataset.sources.table import Csv
from segpipe.imaging.labels import Structure

Layout = Callable[[Path, Sequence[Scan]], Section]
CHANNELS = ("MR0", "MR1")
KINDS = (Msd, NnUnet, NnUnet, Folder, Csv)
REGIONS = {"background": 0, "whole": [1, 2], "core": [2]}


def msd(root: Path, cases: Sequence[Scan]) -> Section:
    return Msd(root=write_msd(root, cases))


def nnunet_1(root: Path, cases: Sequence[Scan]) -> Section:
    return NnUnet(root=write_nnunet(root, cases, version=1))


def nnunet_2(root: Path, cases: Sequence[Scan]) -> Section:
    return NnUnet(root=write_nnunet(root, cases))


def folder(root: Path, cases: Sequence[Scan]) -> Section:
    return Folder(root=write_folder(root, cases), channels=CHANNELS[: len(cases[0].image)], labels=NAMES)


def table(root: Path, cases: Sequence[Scan]) -> Section:
    return Csv(root=write_csv(root / "cases.csv", cases), labels=NAMES)


LAYOUTS: tuple[Layout, ...] = (msd, nnunet_1, nnunet_2, folder, table)


def prepared(source: Section, out: Path) -> Path:
    """Ingest and preprocess with a source; return the folder of results."""
    ran = prepare(source.root, out, *[f"ingest.source.{k}={json.dumps(v)}" for k, v in plain(source).items()])  # type: ignore[attr-defined]
    assert (ran.code, ran.err) == (0, ""), ran
    return out


def plain(source: Section) -> dict[str, Any]:
    return {
        key: value for key, value in source.model_dump(mode="json", exclude_defaults=True).items() if key != "root"
    } | {"kind": source.model_dump()["kind"]}


def contents(out: Path) -> list[Any]:
    """Return what the manifest says of each case, the names of files left out."""
    return [
        (
            {key: value for key, value in row.items() if key not in ("images", "label")},
            [image["sha256"] for image in row["images"]],
            row["label"]["sha256"],
        )
        for row in rows(made(out, "ingest") / "manifest.jsonl")
    ]


def arrays(out: Path) -> dict[str, bytes]:
    files = made(out, "preprocess").glob("cases/*/*.npy")
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in files}


def plan(out: Path) -> Plan:
    return Plan.model_validate_json((out / "latest" / "plan.json").read_text())


@pytest.mark.parametrize("layout", LAYOUTS[1:])
def test_every_layout_gives_the_same_cases(layout: Layout, tmp_path: Path) -> None:
    cases = scans(5)
    one = prepared(msd(tmp_path / "msd", cases), tmp_path / "one")
    other = prepared(layout(tmp_path / "other", cases), tmp_path / "two")
    assert len(contents(one)) == 5
    assert contents(one) == contents(other)
    assert arrays(one) == arrays(other)
    assert plan(one).labels == plan(other).labels


@pytest.mark.parametrize("layout", [nnunet_1, nnunet_2, folder, table])
def test_two_channels_are_the_same_in_every_layout(layout: Layout, tmp_path: Path) -> None:
    cases = scans(4, channels=2)
    one = prepared(msd(tmp_path / "msd", cases), tmp_path / "one")  # there a fourth axis, elsewhere two files
    other = prepared(layout(tmp_path / "other", cases), tmp_path / "two")
    assert [channel.name for channel in plan(one).channels] == ["MR0", "MR1"]
    assert plan(one).channels == plan(other).channels
    assert len(arrays(one)) == 4 * 4
    assert arrays(one) == arrays(other)


def test_channels_keep_their_order(tmp_path: Path) -> None:
    out = prepared(nnunet_2(tmp_path / "data", scans(3, channels=2)), tmp_path / "out")
    for row in rows(made(out, "ingest") / "manifest.jsonl"):
        assert [image["path"][-11:-7] for image in row["images"]] == ["0000", "0001"]


def test_more_than_ten_channels_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    names = {str(index): f"c{index}" for index in range(12)}
    write_nnunet(tmp_path, scans(1), channel_names=dict(sorted(names.items())))
    assert [channel.name for channel in NnUnet(root=tmp_path).read().header.channels] == list(names.values())


class TestRegions:
    @pytest.fixture
    def out(self, tmp_path: Path) -> Path:
        root = write_nnunet(tmp_path / "data", scans(4), labels=REGIONS, regions_class_order=[1, 2])
        return prepared(NnUnet(root=root), tmp_path / "out")

    def test_are_structures_of_several_values_in_the_order_of_painting(self, out: Path) -> None:
        assert plan(out).labels.structures == (
            Structure(name="whole", values=(1, 2), paint=1),
            Structure(name="core", values=(2,), paint=2),
        )

    def test_are_learned_as_one_mask_each(self, out: Path) -> None:
        assert plan(out).target.kind == "regions"
        for case in made(out, "preprocess").glob("cases/*"):
            target, labels = np.load(case / "target.npy"), np.load(case / "labels.npy")[0]
            assert np.array_equal(target[0], labels > 0)
            assert np.array_equal(target[1], labels == 2)

    def test_come_back_from_their_masks(self, out: Path) -> None:
        for case in made(out, "preprocess").glob("cases/*"):
            target, labels = np.load(case / "target.npy"), np.load(case / "labels.npy")[0]
            scores = np.where(target == 1, 1.0, -1.0)
            assert np.array_equal(plan(out).target.decode(scores, plan(out).labels), labels)

    def test_of_another_number_than_the_order_are_refused(self, tmp_path: Path) -> None:
        root = write_nnunet(tmp_path / "data", scans(2), labels=REGIONS, regions_class_order=[1, 2, 3])
        with pytest.raises(DataError, match=r"labels make no sense.*regions_class_order"):
            NnUnet(root=root).read()


def test_an_ignore_label_is_a_value_and_no_structure(tmp_path: Path) -> None:
    cases = scans(4)
    for case in cases:
        case.label[:3] = 3
    labels = {"background": 0, **NAMES, "ignore": 3}
    out = prepared(NnUnet(root=write_nnunet(tmp_path / "data", cases, labels=labels)), tmp_path / "out")
    assert (plan(out).labels.names, plan(out).labels.ignore, plan(out).out_channels) == (("front", "back"), 3, 3)
    target = np.load(next(made(out, "preprocess").glob("cases/*/target.npy")))
    assert set(np.unique(target)) == {0, 1, 2, 255}


def test_values_need_not_be_consecutive(tmp_path: Path) -> None:
    cases = [scan(case.id, number) for number, case in enumerate(scans(4), 1)]
    for case in cases:
        case.label[...] = np.asarray([0, 7, 200], np.uint8)[case.label]
    labels = {"background": 0, "front": 7, "back": 200}
    out = prepared(NnUnet(root=write_nnunet(tmp_path / "data", cases, labels=labels)), tmp_path / "out")
    assert plan(out).out_channels == 3
    for case_folder in made(out, "preprocess").glob("cases/*"):
        target, values = np.load(case_folder / "target.npy")[0], np.load(case_folder / "labels.npy")[0]
        assert set(np.unique(target)) == {0, 1, 2}
        scores = np.stack([target == number for number in range(3)]).astype(float)
        assert np.array_equal(plan(out).target.decode(scores, plan(out).labels), values)
        assert set(np.unique(values)) == {0, 7, 200}


@pytest.mark.parametrize("layout", ["msd", "nnunet"])
def test_further_images_are_cases_without_labels(layout: str, tmp_path: Path) -> None:
    write = {"msd": write_msd, "nnunet": write_nnunet}[layout]
    write(tmp_path / "data", scans(4), unlabelled=[scan("new_1", 8), scan("new_2", 9)])
    ran = prepare(tmp_path / "data", tmp_path / "out")
    assert ran.code == 0
    parts = {row["id"]: row["part"] for row in rows(tmp_path / "out/latest/manifest.jsonl")}
    assert [case for case, part in parts.items() if part == "unlabelled"] == ["new_1", "new_2"]
    folder = made(tmp_path / "out", "preprocess") / "cases" / "new_1"
    assert sorted(path.name for path in folder.iterdir()) == ["case.json", "image.npy"]


def test_a_folder_of_further_images_can_be_named(tmp_path: Path) -> None:
    write_folder(tmp_path, scans(4))
    write_folder(tmp_path / "more", [scan("new", 9)])
    found = Folder(root=tmp_path, labels=NAMES, unlabelled="more/images").read()
    assert [case.id for case in found.cases if case.unlabelled] == ["new"]


class TestNamesOfLabels:
    @pytest.fixture(params=["folder", "table"])
    def source(self, request: pytest.FixtureRequest, tmp_path: Path) -> type[Folder] | type[Csv]:
        if request.param == "folder":
            write_folder(tmp_path, scans(3))
            return Folder
        write_csv(tmp_path / "cases.csv", scans(3))
        return Csv

    def root(self, source: type[Section], tmp_path: Path) -> Path:
        return tmp_path if source is Folder else tmp_path / "cases.csv"

    def test_that_are_missing_are_told_of_with_the_line_to_add(
        self, source: type[Folder] | type[Csv], tmp_path: Path
    ) -> None:
        with pytest.raises(DataError) as caught:
            source(root=self.root(source, tmp_path)).read()
        assert str(caught.value).endswith(
            "Add this line to the config, with names of yours: labels: {name1: 1, name2: 2}"
        )
        assert "\n" not in str(caught.value)

    def test_that_are_given_name_the_structures(self, source: type[Folder] | type[Csv], tmp_path: Path) -> None:
        labels = (
            source(root=self.root(source, tmp_path), labels={"a": 2, "b": 1, "none": 0, "ignore": 9})
            .read()
            .header.labels
        )
        assert (labels.groups(), labels.ignore) == ({"b": (1,), "a": (2,)}, 9)

    @pytest.mark.parametrize("names", [{"a": -1}, {"nothing": 0}])
    def test_that_make_no_sense_are_refused(
        self, names: dict[str, int], source: type[Folder] | type[Csv], tmp_path: Path
    ) -> None:
        with pytest.raises(DataError, match=r"ingest\.source\.labels="):
            source(root=self.root(source, tmp_path), labels=names).read()

    def test_are_asked_for_through_the_command_line_in_one_line(
        self, source: type[Folder] | type[Csv], tmp_path: Path
    ) -> None:
        root = self.root(source, tmp_path)
        ran = prepare(root, tmp_path / "out")
        assert ran.code == 2
        (line,) = ran.err.splitlines()
        assert "labels: {name1: 1, name2: 2}" in line
        assert prepare(root, tmp_path / "out", "ingest.source.labels={name1: 1, name2: 2}").code == 0


class TestATable:
    @pytest.mark.parametrize("separator", [",", ";", "\t"])
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
    def test_may_be_separated_and_marked_as_spreadsheets_do(
        self, separator: str, encoding: str, tmp_path: Path
    ) -> None:
        path = write_csv(tmp_path / "cases.csv", scans(3), separator=separator, encoding=encoding)
        found = Csv(root=path, labels=NAMES).read()
        assert [case.id for case in found.cases] == ["case_1", "case_2", "case_3"]
        assert all(case.label is not None for case in found.cases)
        assert found.described_by == (path,)

    def test_keeps_every_further_column_as_a_covariate(self, tmp_path: Path) -> None:
        columns = {"age": ["61", "", "47"], "site": ["Zürich", "Ulm", "Ulm"]}
        path = write_csv(tmp_path / "cases.csv", scans(3), columns=columns)
        out = prepared(Csv(root=path, labels=NAMES), tmp_path / "out")
        kept = [row["covariates"] for row in rows(out / "latest" / "manifest.jsonl")]
        assert kept == [{"age": "61", "site": "Zürich"}, {"site": "Ulm"}, {"age": "47", "site": "Ulm"}]

    def test_names_subjects_and_splits(self, tmp_path: Path) -> None:
        columns = {"subject": ["s1", "s1", "s2", "s3", "s4"], "split": ["train", "", "Train", "test", "TEST"]}
        path = write_csv(tmp_path / "cases.csv", scans(5), columns=columns)
        out = prepared(Csv(root=path, labels=NAMES), tmp_path / "out")
        kept = {row["id"]: (row["subject"], row["part"]) for row in rows(out / "latest" / "manifest.jsonl")}
        assert kept == {
            "case_1": ("s1", "develop"),
            "case_2": ("s1", "develop"),
            "case_3": ("s2", "develop"),
            "case_4": ("s3", "test"),
            "case_5": ("s4", "test"),
        }

    def test_marks_cases_that_are_meant_to_have_no_label(self, tmp_path: Path) -> None:
        path = write_csv(tmp_path / "cases.csv", scans(5), columns={"split": ["", "", "", "unlabelled", "train"]})
        path.write_text(path.read_text().replace("maps/case_4.nii.gz", "").replace("maps/case_3.nii.gz", ""))
        ran = prepare(path, tmp_path / "out", f"ingest.source.labels={NAMES}")
        assert ran.code == 3
        (line,) = ran.aside
        assert line.startswith("case_3 scans/case_3_image.nii.gz: has no label file")
        parts = {row["id"]: row["part"] for row in rows(tmp_path / "out/latest/manifest.jsonl")}
        assert parts["case_4"] == "unlabelled"

    def test_with_a_short_first_row_loses_no_column(self, tmp_path: Path) -> None:
        path = write_csv(tmp_path / "cases.csv", scans(3, channels=2), columns={"age": ["", "2", "3"]})
        lines = path.read_text().split("\n")
        path.write_text("\n".join([lines[0], "case_1,scans/case_1_image_MR0.nii.gz", *lines[2:]]))
        found = Csv(root=path, labels=NAMES).read()
        assert [channel.name for channel in found.header.channels] == ["MR0", "MR1"]
        assert [len(case.images) for case in found.cases] == [1, 2, 2]
        assert found.cases[1].covariates == {"age": "2"}

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (("scans/case_2", "../case_2"), "line 3: ../case_2_image.nii.gz lies outside the folder of the table"),
            (("scans/case_2", "/scans/case_2"), "line 3: /scans/case_2_image.nii.gz lies outside"),
            (("image,", "picture,"), "no column 'image' (found: case, picture, label, split). Name one so."),
            (("case_2,scans/case_2_image.nii.gz", "case_2,"), "line 3 names no image"),
            (("train", "tarin"), "line 2: split 'tarin' is none of train, test, unlabelled"),
        ],
    )
    def test_that_makes_no_sense_is_named_by_line(self, change: tuple[str, str], words: str, tmp_path: Path) -> None:
        path = write_csv(tmp_path / "cases.csv", scans(3), columns={"split": ["train", "test", "test"]})
        path.write_text(path.read_text().replace(*change))
        with pytest.raises(DataError) as caught:
            Csv(root=path, labels=NAMES).read()
        assert words in str(caught.value)
        assert str(path) in str(caught.value)

    @pytest.mark.parametrize("content", [b"", b"image,label\n", b"\xff\xfe\0", b"image;label\r\n\r\n"])
    def test_without_rows_is_refused(self, content: bytes, tmp_path: Path) -> None:
        (tmp_path / "cases.csv").write_bytes(content)
        with pytest.raises(DataError, match=r"cases\.csv: "):
            Csv(root=tmp_path / "cases.csv", labels=NAMES).read()

    def test_may_not_reach_out_through_a_link(self, tmp_path: Path) -> None:
        path = write_csv(tmp_path / "inner" / "cases.csv", scans(3))
        shutil.move(tmp_path / "inner" / "maps", tmp_path / "maps")
        (tmp_path / "inner" / "maps").symlink_to(tmp_path / "maps")
        with pytest.raises(DataError, match="lies outside"):
            Csv(root=path, labels=NAMES).read()


class TestAuto:
    @pytest.mark.parametrize(("layout", "kind"), list(zip(LAYOUTS, KINDS, strict=True)))
    def test_picks_the_layout(self, layout: Layout, kind: type[Section], tmp_path: Path) -> None:
        named: Any = layout(tmp_path / "data", scans(3))
        auto = Auto(root=named.root, labels=NAMES)
        assert isinstance(auto.resolved(), kind)
        assert auto.read().cases == named.read().cases
        assert auto.read().header.labels == named.read().header.labels
        assert auto.folder == named.folder

    def test_takes_the_one_table_of_a_folder(self, tmp_path: Path) -> None:
        write_csv(tmp_path / "cases.tsv", scans(3), separator="\t")
        auto = Auto(root=tmp_path, labels=NAMES)
        assert isinstance(auto.resolved(), Csv)
        assert auto.read().root == auto.folder

    def test_does_not_choose_between_two_tables(self, tmp_path: Path) -> None:
        for name in ("a.csv", "b.csv"):
            write_csv(tmp_path / name, scans(2))
        with pytest.raises(DataError, match=r"It holds: a\.csv, b\.csv, maps, scans"):
            Auto(root=tmp_path, labels=NAMES).read()

    def test_takes_decathlon_names_that_end_in_a_number_for_what_they_are(self, tmp_path: Path) -> None:
        write_msd(tmp_path, [scan(f"case_{number:04d}", number) for number in (1, 2, 3)])
        found = Auto(root=tmp_path).read()
        assert [case.id for case in found.cases] == ["case_0001", "case_0002", "case_0003"]

    def test_says_what_a_folder_at_the_wrong_level_holds(self, tmp_path: Path) -> None:
        write_msd(tmp_path / "Task04", scans(2))
        with pytest.raises(DataError, match=r"It holds: Task04\."):
            Auto(root=tmp_path).read()


@pytest.mark.parametrize("layout", [msd, nnunet_2, folder])
def test_ids_with_spaces_become_safe_names(layout: Layout, tmp_path: Path) -> None:
    cases = [scan(f"Müller, Änne ({number})", number) for number in range(1, 4)]
    out = prepared(layout(tmp_path / "data", cases), tmp_path / "out")
    ids = [row["id"] for row in rows(out / "latest" / "manifest.jsonl")]
    assert ids == [f"M_ller_nne_{number}" for number in range(1, 4)]
    assert sorted(path.name for path in made(out, "preprocess").glob("cases/*")) == ids


def test_ids_that_become_the_same_safe_name_are_set_aside(tmp_path: Path) -> None:
    cases = [*scans(3), scan("a b", 7), scan("a_b", 8)]
    ran = prepare(write_msd(tmp_path / "data", cases), tmp_path / "out")
    assert ran.code == 3
    (line,) = ran.aside
    assert line.startswith("a_b a b.nii.gz,a_b.nii.gz: the id is used 2 times. Give each case its own name")


@given(strategies.text())
def test_a_safe_id_is_a_file_name_everywhere(text: str) -> None:
    name = safe_id(text)
    assert 1 <= len(name) <= 80
    assert name.isascii()
    assert all(char.isalnum() or char in "._-" for char in name)
    assert name[0] not in "._-"


@pytest.mark.parametrize(
    ("names", "channels", "groups"),
    [
        (["a_0000", "b_0000"], 1, {"a": ["a_0000"], "b": ["b_0000"]}),
        (["a_0001", "a_0002"], 1, {"a_0001": ["a_0001"], "a_0002": ["a_0002"]}),
        (["a_0000", "b"], 1, {"a_0000": ["a_0000"], "b": ["b"]}),
        (["a_0001", "a_0000"], 2, {"a": ["a_0000", "a_0001"]}),
        (["a_0000", "a_0002"], 2, {"a": ["a_0000"]}),
        (["a_0001"], 2, {"a": ["a_0001"]}),
    ],
)
def test_files_are_grouped_by_the_number_of_their_channel(
    names: Sequence[str], channels: int, groups: Mapping[str, Sequence[str]]
) -> None:
    found = by_channel([Path(f"{name}.nii.gz") for name in names], channels)
    assert {stem: [path.name.removesuffix(".nii.gz") for path in one] for stem, (one,) in found.items()} == groups


def test_two_files_of_one_name_are_two_cases_of_one_name() -> None:
    found = by_channel([Path("a.nii"), Path("a.nii.gz"), Path("b.nii")], 1)
    assert {stem: len(groups) for stem, groups in found.items()} == {"a": 2, "b": 1}


@pytest.mark.parametrize("kind", list(members(Source)), ids=lambda kind: kind.__name__)
class TestEverySource:
    def test_comes_back_from_yaml(self, kind: Any, tmp_path: Path) -> None:
        source = kind(root=tmp_path)
        assert kind.model_validate_json(source.model_dump_json()) == source

    def test_has_a_name_that_does_not_depend_on_where_it_lies(self, kind: Any, tmp_path: Path) -> None:
        assert kind(root=tmp_path).deciding() == kind(root=Path("elsewhere")).deciding()

    def test_refuses_a_folder_that_is_not_there(self, kind: Any, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="nowhere"):
            kind(root=tmp_path / "nowhere").read()
