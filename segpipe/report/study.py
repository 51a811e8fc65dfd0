"""What no pipeline can know of a study: its question, design, raters, ethics; and the chapter that opens with it."""

from collections.abc import Iterator

from pydantic import PositiveInt

from segpipe.core.section import Section


class StudyConfig(Section):
    """The study in its authors' words. All of it is printed in the report: name no patient."""

    background: str = ""
    """Why the question matters, clinically and scientifically."""
    aims: str = ""
    """What is asked; the report opens with it."""
    hypotheses: str = ""
    """What is expected, and by which margin, as it was written down before."""
    goal: str = ""
    """What kind of study this is: model creation, exploration, feasibility, non-inferiority, …"""
    design: str = ""
    """Prospective or retrospective, consecutive or not, at one centre or several."""
    intended_use: str = ""
    """What the segmentation is for, who uses it, and at which point of care."""
    data_source: str = ""
    """Institutions, registries or public sets that the images come from."""
    period: str = ""
    """When the images were acquired, as coarse as privacy wants it."""
    eligibility: str = ""
    """Who was included and who was not, and by which criteria."""
    acquisition: str = ""
    """Scanners, sequences or protocols, contrast media."""
    deidentification: str = ""
    """How names, dates, faces and other identifying marks were removed."""
    missing_data: str = ""
    """What was done where images, references or covariates are missing."""
    reference_standard: str = ""
    """How the reference was drawn: the rules, the tool, whether by hand or by correcting a draft."""
    reference_rationale: str = ""
    """Why this reference and no other."""
    annotators: str = ""
    """Who drew it: profession, years of experience, training for the task."""
    test_annotation: str = ""
    """How the references of the test cases were drawn, where otherwise than the rest; who was blinded to what."""
    raters: PositiveInt | None = None
    """How many people drew each reference independently of one another; empty: not told."""
    rater_agreement: str = ""
    """How well they agree with one another and with themselves."""
    sites: PositiveInt | None = None
    """How many institutions the images come from; empty: as many as the manifest's column of sites names."""
    external_test: bool = False
    """Whether the test cases come from institutions that gave no training cases."""
    sample_size: str = ""
    """How the number of test cases was chosen."""
    robustness: str = ""
    """Analyses of robustness or sensitivity that were done outside of this run."""
    explainability: str = ""
    """Methods of explanation that were used outside of this run."""
    fairness: str = ""
    """What was done so that no group of patients is served worse."""
    limitations: str = ""
    """What limits the study, beside what the report finds by itself."""
    implications: str = ""
    """What follows for practice."""
    registration: str = ""
    """Registry and number, where the study is registered."""
    protocol: str = ""
    """Where the full protocol can be read."""
    availability: str = ""
    """Whether and where data, software and model can be had."""
    ethics: str = ""
    """Approval by an ethics committee, and consent."""
    patient_involvement: str = ""
    """How patients and the public took part in the study."""
    funding: str = ""
    """Who paid, and what part they had."""
    conflicts: str = ""
    """Interests of the authors."""


OPENING = {
    "aims": "Question",
    "hypotheses": "Hypotheses",
    "goal": "Kind of study",
    "background": "Background",
    "intended_use": "Intended use",
    "design": "Design",
    "data_source": "Where the data come from",
    "period": "Period",
    "eligibility": "Who was included",
    "acquisition": "Acquisition",
    "deidentification": "De-identification",
    "missing_data": "Missing data",
    "reference_standard": "Reference standard",
    "reference_rationale": "Why this reference",
    "annotators": "Annotators",
    "test_annotation": "Annotation of the test cases",
    "rater_agreement": "Agreement of raters",
    "sample_size": "Sample size",
    "robustness": "Robustness",
    "explainability": "Explanations",
    "fairness": "Fairness",
    "implications": "Implications",
    "registration": "Registration",
    "protocol": "Protocol",
    "availability": "Availability",
    "ethics": "Ethics",
    "patient_involvement": "Patients and public",
    "funding": "Funding",
    "conflicts": "Interests",
}
"""Texts of the opening chapter, in order; limitations have a chapter of their own."""
SHOWN_FIRST = 6
"""Texts that are read at once; the others are unfolded."""


def asked(study: StudyConfig) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return heading and text of what the authors stated: what is read first, and the rest."""
    found = list(_stated(study))
    first = [row for row in found if row[0] in list(OPENING.values())[:SHOWN_FIRST]]
    return first, [row for row in found if row not in first]


def _stated(study: StudyConfig) -> Iterator[tuple[str, str]]:
    for name, heading in OPENING.items():
        if text := " ".join(str(getattr(study, name)).split()):
            yield heading, text
