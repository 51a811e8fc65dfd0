"""One rule for each item of CLAIM 2024 up to the training: fulfilled is what run or authors show, no mere file."""

from collections.abc import Callable

from segpipe.report.evidence import Answer, Evidence
from segpipe.report.methods import views
from segpipe.report.wording import counted, listed, number

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
    window = receipt("settings.infer.window")
    if window is None:
        return Answer("authors")
    count = len(known.material.trainings)
    first = f"Mean of the probabilities of {count} networks." if count > 1 else "None: a single network."
    return Answer("run", " ".join([first, *views(window, known.material.rank)]), "methods")
