"""Files in, label maps out: a model over folders of scans, one bad scan never stopping the others."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from segpipe.core.errors import DataError, SegpipeError
from segpipe.core.stage import Progress
from segpipe.dataset.checks import CheckConfig
from segpipe.dataset.load import load_image
from segpipe.dataset.manifest import CaseFiles, Refusal
from segpipe.dataset.plan import Plan
from segpipe.dataset.sources.found import by_channel, images_in, safe_id
from segpipe.dataset.survey import page_ids
from segpipe.imaging.files import suffix_of, write_volume
from segpipe.imaging.pictures import is_picture, look_at
from segpipe.predict.confidence import judge_of
from segpipe.predict.scans import scan_checker
from segpipe.predict.seen import segmented
from segpipe.predict.segmenter import Segmenter
from segpipe.predict.shapes import shape_checker
from segpipe.quality.checks import CHECKS, read_checks, write_checks
from segpipe.quality.usual import USUAL

FORMS = "NIfTI, NRRD, MHA, PNG, TIFF, JPEG or BMP"


def predict_files(
    model: Path,
    scans: Sequence[Path],
    out: Path,
    progress: Progress,
    *,
    device: str = "auto",
    skip_existing: bool = False,
) -> tuple[list[Path], list[Refusal]]:
    """Write a label map for each scan, on the grid of its file; return what was written and what was not.

    A scan gives ``<id>.nii.gz``, a picture ``<id>.png`` or ``<id>.tif``, and each page of a stack one of its own.

    What the model folder tells of validation cases, usual scans and shapes decides what stands in ``checks.csv``: how
    sure the model is of each case, what Dice to expect, how unusual the scan is, and whether to accept the prediction.

    Raises:
        DataError: There are no scans.
        ArtifactError: The model folder is not whole.
    """
    segmenter = Segmenter.load(model, device)
    known = [found for found in (scan_checker(model / USUAL, segmenter), shape_checker(model, segmenter)) if found]
    judge = judge_of(model, known, segmenter.plan)
    cases = _cases(scans, segmenter.plan)
    inputs = {path.resolve() for case in cases for path in case.images}
    if taken := [case.id for case in cases if (out / case.prediction).resolve() in inputs]:
        raise DataError(f"{out}: the prediction of '{taken[0]}' would take the place of the scan. Give another folder.")
    done: list[Path] = []
    refused: list[Refusal] = []
    checks = read_checks(out / CHECKS) if skip_existing and (out / CHECKS).is_file() else {}
    with progress("segmenting", len(cases)) as advance:
        for case in cases:
            target = out / case.prediction
            try:
                if not (skip_existing and target.is_file()):
                    seen = segmented(case.id, load_image(case, CheckConfig().tolerance_mm), segmenter)
                    write_volume(target, seen.labels, header_of=case.images[0], unit=case.reading.unit)
                    checks |= {case.id: judge(seen)} if judge.knows else {}
                done.append(target)
            except DataError as error:
                named = str(error) if case.images[0].name in str(error) else f"{case.images[0].name}: {error}"
                refused.append(Refusal(case.id, named))
            except SegpipeError as error:
                if error.code != DataError.code:
                    raise
                refused.append(Refusal(case.id, str(error)))
            advance(1)
    if checks:
        write_checks(out / CHECKS, checks)
    else:
        (out / CHECKS).unlink(missing_ok=True)  # of an earlier model
    return done, refused


def _cases(scans: Sequence[Path], plan: Plan) -> list[CaseFiles]:
    files: list[Path] = []
    for path in scans:
        if path.is_dir():
            files += images_in(path)
        elif path.is_file() and suffix_of(path):
            files.append(path)
        else:
            raise DataError(f"{path}: no image and no folder of images. Give {FORMS} files.")
    if not files:
        raise DataError(f"{', '.join(map(str, scans))}: holds no images. Give {FORMS} files.")
    groups = by_channel(files, len(plan.channels))
    if doubled := [stem for stem, found in groups.items() if len(found) > 1]:
        raise DataError(f"two scans are named '{doubled[0]}'. Give each its own name, or segment them apart.")
    cases = {
        safe_id(stem): CaseFiles(safe_id(stem), found[0], None, reading=plan.reading) for stem, found in groups.items()
    }
    if len(cases) < len(groups):
        doubled = [name for name, count in Counter(map(safe_id, groups)).items() if count > 1]
        raise DataError(f"two scans would be written as '{doubled[0]}'. Give each its own name, or segment them apart.")
    return [page for case in cases.values() for page in _pages(case)]


def _pages(case: CaseFiles) -> list[CaseFiles]:
    """Return a case for every page of a stack of pictures; any other case as it is."""
    try:
        count = look_at(case.images[0]).pages if is_picture(case.images[0]) else 1
    except SegpipeError:
        return [case]  # whoever reads the file tells what is wrong with it
    return [replace(case, id=name, page=page) for page, name in enumerate(page_ids(case.id, count))] or [case]
