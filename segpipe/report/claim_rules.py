"""One rule for each item of CLAIM 2024: fulfilled is what the run or its authors show, not what a file might hold."""

from collections.abc import Callable

from segpipe.report.evidence import Answer, Evidence
from segpipe.report.wording import counted, listed, name_of, number, percent

Rule = Callable[[Evidence], Answer]


def by_authors(*names: str) -> Rule:
    """Return the rule of an item that only the authors can fill."""
    return lambda known: known.stated(*names)


def identified(known: Evidence) -> Answer:
    """Answer item 1."""
    if known.material.model.get("network"):
        return Answer("partly", "The method is deep learning, a U-Net; the paper's title has to say so.", "methods")
    return Answer("authors")


def summarised(known: Evidence) -> Answer:
    """Answer item 2."""
    return Answer("authors", "Figures and findings for it stand at the top of this report.", "findings")


def sources(known: Evidence) -> Answer:
    """Answer item 7."""
    told = "Name, layout and SHA-256 of the data set are told; institutions and period are for the authors"
    return known.stated(
        "data_source", "period", otherwise=Answer("partly", f"{told} (report.study.data_source, .period).", "methods")
    )


def criteria(known: Evidence) -> Answer:
    """Answer item 8."""
    told = "Technical exclusions and their reasons are listed; clinical criteria are for the authors"
    return known.stated("eligibility", otherwise=Answer("partly", f"{told} (report.study.eligibility).", "cohort"))


def preprocessed(known: Evidence) -> Answer:
    """Answer item 9."""
    if known.material.plan is None:
        return Answer("authors", "No preprocessing ran here.")
    return Answer("run", "Cropping, resampling and normalisation, with the reason for each value.", "methods")


def subsets(known: Evidence) -> Answer:
    """Answer item 10."""
    receipt = known.material.receipt("train")
    if receipt("settings.train.sampling") is None:
        return Answer("authors")
    few = receipt("settings.train.labels")
    kept = f"{few} labelled cases were chosen by the seed" if few else "All usable cases were taken"
    return Answer("run", f"{kept}; how patches are drawn from images is told.", "methods")


def missing(known: Evidence) -> Answer:
    """Answer item 12."""
    dataset = known.material.dataset
    blank = any(not value.strip() for case in dataset.cases for value in case.covariates.values())
    told = (
        f"{counted(len(dataset.quarantined), 'case')} with missing or faulty files set aside, "
        f"{counted(len(dataset.part('unlabelled')), 'case')} without reference not scored, undefined figures counted"
    )
    if blank:
        return known.stated("missing_data", otherwise=Answer("partly", f"{told}; some covariates are empty.", "cohort"))
    return Answer("run", f"{told}.", "cohort")


def acquired(known: Evidence) -> Answer:
    """Answer item 13."""
    told = "Spacing, size and intensities are told from the files; scanners and protocols are for the authors"
    return known.stated("acquisition", otherwise=Answer("partly", f"{told} (report.study.acquisition).", "data"))


def rated(known: Evidence) -> Answer:
    """Answer item 18."""
    if known.study.raters == 1:
        alone = Answer("partly", "One rater drew each reference, so it was not measured: a limitation.", "limitations")
        return known.stated("rater_agreement", otherwise=alone)
    return known.stated("rater_agreement")


def assigned(known: Evidence) -> Answer:
    """Answer item 19."""
    receipt = known.material.receipt("ingest")
    seed, by_file = receipt("settings.ingest.split.seed"), receipt("settings.ingest.split.file")
    if by_file is not None:
        return Answer("partly", "By a split file: how that was drawn up is for the authors.", "methods")
    if seed is None:
        return Answer("authors")
    return Answer("run", f"By subject, at random (seed {seed}), before anything was measured.", "methods")


def disjoint(known: Evidence) -> Answer:
    """Answer item 20."""
    if known.leaks:
        return Answer("partly", f"Not disjoint: {listed(known.leaks)} lie in test and training parts.", "cohort")
    looked = "No subject and no image file (by SHA-256) lies both in the test part and in another"
    if known.own_subjects:
        return Answer("partly", f"{looked}. Every case counts as its own subject: say whether that is so.", "methods")
    return Answer("run", f"{looked}.", "methods")


def sized(known: Evidence) -> Answer:
    """Answer item 21."""
    figure = known.material.figure("dice")
    if figure is not None and figure.high > figure.low:
        width = number(figure.high - figure.low, 3)
        reached = f"{counted(len(known.tested), 'subject')} gave an interval {width} wide for the mean Dice"
        return known.stated(
            "sample_size",
            otherwise=Answer(
                "partly", f"{reached}; how many were meant is for the authors (report.study.sample_size).", "accuracy"
            ),
        )
    return known.stated("sample_size")


def modelled(known: Evidence) -> Answer:
    """Answer item 22."""
    network = known.material.model.get("network") or {}
    if not (network.get("encoder") or {}).get("widths") or not known.material.model.get("weights_sha256"):
        return Answer("authors")
    return Answer("run", "Layers, channels, inputs, outputs, and the hash of the weights.", "methods")


def software(known: Evidence) -> Answer:
    """Answer item 23."""
    if known.libraries:
        return Answer(
            "run", f"segpipe and {counted(len(known.libraries), 'library', 'libraries')}, with versions.", "provenance"
        )
    return Answer("partly", "The version of segpipe is told; those of its libraries were not kept.", "provenance")


def initialised(known: Evidence) -> Answer:
    """Answer item 24."""
    if known.material.receipt("train")("settings.train.fit.seed") is None:
        return Answer("authors")
    return Answer("run", "How weights began, and the seed.", "methods")


def trained(known: Evidence) -> Answer:
    """Answer item 25."""
    receipt = known.material.receipt("train")
    wanted = ("settings.train.fit.steps", "settings.train.optim.learning_rate", "settings.train.augment")
    if any(receipt(key) is None for key in wanted):
        return Answer("authors")
    return Answer("run", "Loss, optimiser, schedule, augmentation, batch, steps, and the curves.", "methods")


def selected(known: Evidence) -> Answer:
    """Answer item 26."""
    keep = known.material.receipt("train")("settings.train.fit.keep")
    if keep is None:
        return Answer("authors")
    how = "after the last step, so nothing was chosen" if keep == "last" else "of the best validation Dice"
    return Answer("run", f"The weights {how}.", "methods")


def ensembled(known: Evidence) -> Answer:
    """Answer item 27."""
    receipt = known.material.receipt("infer")
    if receipt("settings.infer.window") is None:
        return Answer("authors")
    count = len(known.material.trainings)
    mirrored = " Predictions of mirrored images are averaged." if receipt("settings.infer.window.mirror_axes") else ""
    if count > 1:
        return Answer("run", f"Mean of the probabilities of {count} networks.{mirrored}", "methods")
    return Answer("run", f"None: a single network.{mirrored}", "methods")


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
    """Answer item 30."""
    repeats = len(known.material.repeats)
    if repeats > 1:
        return Answer(
            "partly", f"The spread over {repeats} seeds is told; other analyses are for the authors.", "accuracy"
        )
    return known.stated("robustness", otherwise=Answer("absent", "One training, unaltered images."))


def explained(known: Evidence) -> Answer:
    """Answer item 31."""
    return known.stated("explainability", otherwise=Answer("absent", "Outlines are shown, which explain no decision."))


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
    if {"age", "sex"} <= names:
        return Answer("run", "Age, sex and other covariates of each part.", "data")
    told = f"Covariates known: {listed(sorted(names))}" if names else "Images and volumes of each part are described"
    return Answer("partly", f"{told}; age, sex and disease are not in the manifest.", "data")


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
    checked = known.material.receipt("ingest")("settings.ingest.check") is not None
    return (
        Answer("run", "Files that fail the checks are set aside with their reason.", "cohort")
        if checked
        else Answer("authors")
    )
