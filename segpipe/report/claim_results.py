"""One rule for each item of CLAIM 2024 from the evaluation on, and for those of TRIPOD+AI that it lacks."""

from segpipe.report.evidence import Answer, Evidence
from segpipe.report.wording import counted, listed, name_of, percent


def measured(known: Evidence) -> Answer:
    """Answer item 28."""
    scores = known.material.scores
    unnamed = [metric for metric in scores.main if metric not in known.material.definitions]
    if not scores.main or unnamed:
        return Answer("partly", f"No definition is kept of {listed([name_of(m) for m in unnamed])}." if unnamed else "")
    return Answer("run", "Each with the id of its definition, and the rule for empty masks.", "methods")


def sure(known: Evidence) -> Answer:
    """Answer item 29."""
    receipt = known.material.receipt("evaluate")
    resamples = receipt("settings.evaluate.resamples")
    if resamples is None or not known.has_intervals:
        return Answer("partly", "Not every figure has an interval.", "accuracy")
    level = percent(known.material.confidence)
    return Answer("run", f"{level} bootstrap intervals of {resamples} resamples, drawn by subject.", "methods")


def robust(known: Evidence) -> Answer:
    """Answer item 30: seeds, subgroups and scans unlike those trained on, as far as the run has them."""
    parts: list[tuple[str, str]] = []
    if (repeats := len(known.material.repeats)) > 1:
        parts.append((f"the spread over {repeats} seeds", "accuracy"))
    if groups := _grouped_by(known):
        parts.append((f"subgroups by {listed(groups)}", "subgroups"))
    if "scans" in known.chapters:
        parts.append(("how unusual scans fare", "scans"))
    if "quality" in known.chapters:
        parts.append(("which predictions can be trusted", "quality"))
    if not parts:
        return known.stated("robustness", otherwise=Answer("absent", "One training, unaltered images."))
    told = listed([words for words, _ in parts])
    answer = Answer(
        "partly", f"Told: {told}; other analyses are for the authors (report.study.robustness).", parts[0][1]
    )
    return known.stated("robustness", otherwise=answer)


def explained(known: Evidence) -> Answer:
    """Answer item 31: why a prediction is trusted or not is told; why the network draws what it does, is not."""
    answer = Answer("absent", "Outlines are shown, which explain no decision.")
    if "quality" in known.chapters:
        dice = "its predicted Dice, " if known.material.judged.get("compared") else ""
        told = f"Each prediction has its uncertainty, {dice}and a flag with reasons"
        answer = Answer("partly", f"{told}; what in the image decided is not explained.", "quality")
    return known.stated("explainability", otherwise=answer)


def fair(known: Evidence) -> Answer:
    """Answer TRIPOD+AI item 14."""
    if not (groups := _grouped_by(known)):
        return known.stated("fairness")
    gaps = [one["covariate"] for one in known.material.subgroups if one["gap"]]
    tested = f", tested for {listed(gaps)}" if gaps else "; too few subjects for a test"
    told = f"Mean Dice by {listed(groups)} with intervals{tested}; what was done about it is for the authors"
    return known.stated("fairness", otherwise=Answer("partly", f"{told} (report.study.fairness).", "subgroups"))


def _grouped_by(known: Evidence) -> list[str]:
    """Return the covariates by which groups are shown."""
    return [str(one["covariate"]) for one in known.material.subgroups if one["groups"]]


def internal(known: Evidence) -> Answer:
    """Answer item 32."""
    if not known.tested:
        return Answer("absent", "No case that the network never saw has scores.")
    if known.study.external_test and not known.material.parts:
        return Answer("absent", "The test cases come from elsewhere.")
    return Answer(
        "run", f"{counted(len(known.tested), 'subject')} that no network saw that segmented them.", "accuracy"
    )


def external(known: Evidence) -> Answer:
    """Answer item 33."""
    if known.study.external_test and known.tested:
        return Answer("stated", "The authors state that the test cases come from other institutions.", "accuracy")
    return Answer("absent", "All cases come from one data set.", "limitations")


def flowed(known: Evidence) -> Answer:
    """Answer item 35."""
    return Answer("run", "Flow of the cases, with every case set aside and its reason.", "cohort")


def described(known: Evidence) -> Answer:
    """Answer item 36."""
    names = {name.strip().lower() for case in known.material.dataset.cases for name in case.covariates}
    groups = _grouped_by(known)
    more = f" Dice by {listed(groups)} stands under Subgroups." if groups else ""
    if {"age", "sex"} <= names:
        return Answer("run", f"Age, sex and other covariates of each part.{more}", "data")
    told = f"Covariates known: {listed(sorted(names))}" if names else "Images and volumes of each part are described"
    lacking = [name for name in ("age", "sex") if name not in names]
    return Answer("partly", f"{told}; {listed([*lacking, 'disease'])} are not in the manifest.{more}", "data")


def performed(known: Evidence) -> Answer:
    """Answer item 37."""
    if not known.has_intervals:
        return Answer("partly", "Not every figure has an interval.", "accuracy")
    return Answer("run", "Mean, interval, median, quartiles, worst case, undefined cases.", "accuracy")


def estimated(known: Evidence) -> Answer:
    """Answer item 38."""
    if not known.tested:
        return Answer("absent", "There are no scores.")
    told = "Accuracy of the segmentation, by structure, with its precision"
    return Answer("partly", f"{told}; what it means for a diagnosis is for the authors.", "accuracy")


def failed(known: Evidence) -> Answer:
    """Answer item 39."""
    if not known.pictures:
        return Answer("partly", "Cases are listed, the worst first, but there are no pictures of them.", "cases")
    unscored = counted(len(known.material.scores.errors), "case")
    return Answer("run", f"The worst in pictures, with the kind of each error; {unscored} not scored.", "pictures")


def limited(known: Evidence) -> Answer:
    """Answer item 40."""
    drafted = Answer(
        "partly", "Drafted by rules from the run; authors complete (report.study.limitations).", "limitations"
    )
    return Answer("stated", "", "limitations") if known.study.limitations.strip() else drafted


def protocol(known: Evidence) -> Answer:
    """Answer item 42."""
    technical = Answer(
        "partly", "All technical details stand here; where the protocol is, is for the authors.", "methods"
    )
    return known.stated("protocol", otherwise=technical)


def available(known: Evidence) -> Answer:
    """Answer item 43."""
    licence = known.material.model.get("licence")
    told = f"segpipe is under Apache-2.0{f'; the weights are under {licence}' if licence else ''}"
    rest = Answer(
        "partly", f"{told}; access to data and model is for the authors (report.study.availability).", "provenance"
    )
    return known.stated("availability", otherwise=rest)


def balanced(known: Evidence) -> Answer:
    """Answer TRIPOD+AI item 13."""
    foreground = known.material.receipt("train")("settings.train.sampling.foreground")
    if foreground is None:
        return Answer("authors")
    return Answer("run", f"{percent(foreground)} of the patches are drawn around a structure.", "methods")


def faulty_input(known: Evidence) -> Answer:
    """Answer TRIPOD+AI item 27a."""
    if known.material.receipt("ingest")("settings.ingest.check") is None:
        return Answer("authors")
    told = "Files that fail the checks are set aside with their reason"
    flagged = "; predictions of unusual scans are flagged" if "quality" in known.chapters else ""
    return Answer("run", f"{told}{flagged}.", "cohort")
