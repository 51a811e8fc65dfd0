"""The report: complete, closed to the outside, safe, and made of whatever there is."""

import base64
import getpass
import gzip
import hashlib
import html
import re
import shutil
import socket
from pathlib import Path

import numpy as np
from report_artifacts import Made, cohort, ellipsoids, moved
from report_reading import Reader, check_accuracy

from segpipe.core.stage import Artifact
from segpipe.dataset.manifest import Dataset
from segpipe.dataset.settings import IngestConfig
from segpipe.dataset.sources.decathlon import Msd
from segpipe.dataset.sources.folder import Folder
from segpipe.dataset.splits import SplitConfig
from segpipe.imaging.files import write_volume
from segpipe.imaging.geometry import Geometry
from segpipe.imaging.volume import Volume
from segpipe.report.settings import ReportConfig


def test_every_number_of_the_accuracy_tables_is_that_of_the_summary(whole: Made, page: str) -> None:
    assert check_accuracy(whole, page) == len(whole.summary()["scores"])


def test_the_headline_is_that_of_the_summary(whole: Made, page: str) -> None:
    (mean,) = [f for f in whole.summary()["scores"] if (f["label"], f["metric"]) == ("mean", "dice")]
    shown = re.search(r"<p>Mean Dice, 2 structures</p><strong>([\d.]+)</strong><p>95.%.CI ([\d.]+) to ([\d.]+)", page)
    assert shown
    assert [float(number) for number in shown.groups()] == [round(mean[key], 3) for key in ("mean", "low", "high")]


def test_there_is_one_row_for_each_test_case(whole: Made, page: str) -> None:
    dataset = Dataset.open(whole.artifacts["ingest"].path, whole.source.source.folder)
    rows = Reader(page).table("Case")
    assert sorted(row[0] for row in rows) == sorted(case.id for case in dataset.part("test"))
    assert [float(row[1]) for row in rows] == sorted(float(row[1]) for row in rows)
    assert len({len(row) for row in rows}) == 1


def test_no_request_leaves_the_page(page: str) -> None:
    assert not re.search(r"https?:|ftp:|wss?:|@import", page)
    places = re.findall(r"""(?:src|href|action|data|poster|srcset)\s*=\s*["']([^"']*)""", page)
    assert places
    assert all(place.startswith(("#", "data:")) for place in places)
    assert all(place.startswith("#") for place in re.findall(r"url\(([^)]*)\)", page))


def test_the_policy_lets_only_the_own_script_run(page: str) -> None:
    policy = html.unescape(re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[0])
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'; " in policy
    assert f"script-src 'sha256-{digest}'" in policy
    assert not re.search(r"<[a-z][^>]*\son[a-z]+=", re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL))


def test_no_person_and_no_machine_is_named(whole: Made, page: str) -> None:
    packed = re.findall(r'"data": "([A-Za-z0-9+/=]+)"', page)
    images = re.findall(r"data:image/webp;base64,([A-Za-z0-9+/=]+)", page)
    assert packed
    assert images
    inside = b"".join(gzip.decompress(base64.b64decode(text)) for text in packed)
    everything = page.encode() + inside + b"".join(base64.b64decode(text) for text in images)
    for secret in ("jane-doe", str(whole.root), f"{Path.home()}/"):
        assert secret.encode() not in everything
    for name in (getpass.getuser(), socket.gethostname()):  # may be short: looked for as words
        assert not re.search(rf"\b{re.escape(name)}\b", Reader(page).text)


def test_the_same_inputs_give_the_same_bytes(whole: Made, page: str) -> None:
    assert whole.report() == page


def test_the_chapters_say_what_this_run_did(page: str) -> None:
    text = Reader(page).text
    for said in (
        "12 usable cases of 12 subjects",
        "2 cases of 14 set aside",
        "label value 7 (1 voxels) is not declared",
        "2 cases failed and were set aside",
        "A 3D U-Net of 2 encoding steps (32, 64, 128 channels, 1.4 million parameters)",
        "soft Dice plus cross-entropy",
        "Muon for the convolutions between feature maps and AdamW for all else, with a peak learning rate of 0.008",
        "the median image",
        "95 % intervals by bootstrap-t over subjects",
        "Only 6 test subjects",
        "mean 0.893 at best (step 1000",
        "went on from step 500",
        "ab" * 32,
    ):
        assert said in text, said


def test_a_resumed_run_shows_the_later_figures_only(page: str) -> None:
    (loss,) = re.findall(r'aria-label="Loss of the training.*?</svg>', page, re.DOTALL)
    assert "77" not in "".join(re.findall(r">([^<]*)</text>", loss))


def test_the_reference_is_white_and_the_prediction_dashed_in_each_picture(page: str) -> None:
    pictures = re.findall(r'<svg class="planes".*?</svg>', page, re.DOTALL)
    assert len(pictures) == 6
    assert all(picture.count('class="truth"') >= 3 and "predicted i" in picture for picture in pictures)
    assert all(">L</text>" in picture and ">A</text>" in picture for picture in pictures)


def test_names_are_escaped_everywhere(tmp_path: Path) -> None:
    nasty = "<script>alert(1)</script>", "</style><img src=x onerror=alert(2)>&\"'"
    made = cohort(tmp_path, 6, names=nasty).upto_evaluate(preprocessed=True)
    text = made.report(ReportConfig(title="</title><b>"))
    assert "<script>alert" not in text
    assert "<img" not in text
    assert text.count("</style>") == 1
    assert "<title>&lt;/title&gt;&lt;b&gt;</title>" in text
    assert text.count("</script>") == 2
    assert nasty[1] in html.unescape(text)


def test_one_case_has_no_interval_but_a_report(tmp_path: Path) -> None:
    made = cohort(tmp_path, 3, test=0.3).upto_evaluate()
    text = made.report()
    assert len(Reader(text).table("Case")) == 1
    assert "one subject: no interval" in text
    assert "Only 1 test subject" in text
    assert "The only case" in text
    assert check_accuracy(made, text)


def test_a_set_in_which_all_was_missed_says_so(tmp_path: Path) -> None:
    made = cohort(tmp_path, 6, lambda case, truth: np.zeros_like(truth)).upto_evaluate()
    text = made.report()
    assert "front was missed." in text
    assert "In 3 of 3 cases nothing of it was found" in text
    assert "No case was set aside." in text
    assert check_accuracy(made, text)


def test_a_missing_prediction_is_listed_with_its_reason(tmp_path: Path) -> None:
    made = cohort(tmp_path, 8, lambda case, truth: None if case == "case_003" else moved(case, truth)).upto_evaluate()
    reader = Reader(made.report())
    (row,) = [row for row in reader.table("Case") if row[0] == "case_003"]
    assert row[-1] == "imagesTr/case_003.nii.gz: the network saw nothing."
    assert set(row[1:-1]) == {"\N{EN DASH}"}
    assert "Not every test case could be scored." in reader.text
    assert "1 of 4 test cases has no scores (case_003)" in reader.text
    assert "scored 3 · not scored 1" in reader.text


def test_no_scores_at_all_is_a_report_too(tmp_path: Path) -> None:
    text = Reader(cohort(tmp_path, 6, lambda case, truth: None).upto_evaluate().report()).text
    assert "No test case could be scored." in text
    assert "There are no scores" in text
    assert "No pictures" in text


def test_no_test_split_is_a_report_too(tmp_path: Path) -> None:
    assert "Nothing was tested." in cohort(tmp_path, 4, test=0).upto_evaluate().report()


def test_an_evaluation_alone_is_enough(whole: Made) -> None:
    text = whole.report(without=("preprocess", "train", "infer"))
    assert check_accuracy(whole, text)
    assert "No pictures" in text
    assert all(f'id="{chapter}"' not in text for chapter in ("training", "viewer"))
    assert "U-Net" not in text


def test_damaged_extras_are_left_out(whole: Made, tmp_path: Path) -> None:
    broken = dict(whole.artifacts)
    for stage in ("preprocess", "train"):
        shutil.copytree(whole.artifacts[stage].path, tmp_path / stage)
        broken[stage] = Artifact(stage, "0" * 16, tmp_path / stage, {})
    for path in ("preprocess/plan.json", "train/model/model.json", "train/artifact.json", "train/history.jsonl"):
        (tmp_path / path).write_text("{")
    shutil.move(whole.artifacts["infer"].path / "failed.jsonl", tmp_path / "failed.jsonl")
    try:
        text = Made(tmp_path, whole.source, artifacts=broken).report()
    finally:
        shutil.move(tmp_path / "failed.jsonl", whole.artifacts["infer"].path / "failed.jsonl")
    assert check_accuracy(whole, text)


def test_sources_that_were_moved_away_leave_out_the_pictures(whole: Made, tmp_path: Path) -> None:
    gone = IngestConfig(source=Msd(root=tmp_path / "gone"), split=whole.source.split)
    text = Made(tmp_path, gone, artifacts=whole.artifacts).report()
    assert text.count("No picture: case_") == 6
    assert 'id="viewer"' not in text


def test_flat_images_are_shown_as_panels(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    grid = Geometry((40, 48, 1), np.diag([0.5, 0.5, 1, 1]))
    for number in range(6):
        image, labels = ellipsoids(rng, (40, 48))
        for part, array in (("images", image), ("labels", labels)):
            write_volume(tmp_path / "data" / part / f"s{number}.nii.gz", Volume(array[None, ..., None], grid))
    source = Folder(root=tmp_path / "data", labels={"front": 1, "back": 2})
    made = Made(tmp_path, IngestConfig(source=source, split=SplitConfig(test_fraction=0.5))).upto_evaluate()
    text = made.report()
    rows = re.findall(r'<figure class="case row".*?</div></figure>', text, re.DOTALL)
    titles = [re.findall(r'alt="(\w+) of s\d"', row) for row in rows]
    assert titles == [["Image", "Reference", "Prediction", "Errors"]] * 3
    assert "planes" not in text.split("<main>")[1].split("<script>")[0]
    assert 'id="viewer"' not in text


def test_the_viewer_can_be_left_out(whole: Made) -> None:
    assert 'id="viewer"' not in whole.report(ReportConfig(viewer=False))
    assert 'id="viewer"' not in whole.report(ReportConfig(viewer_limit_mm=5))
