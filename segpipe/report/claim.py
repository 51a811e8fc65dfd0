"""The checklist of CLAIM 2024, filled in by rules from the run, with the items of TRIPOD+AI that go with it.

Items are numbered as in Tejani et al. 2024 (Radiology: Artificial Intelligence 6(4) e240300) and Collins et al. 2024
(BMJ 385 e078378); their topics are told in our own words, and their wording is to be read there.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from segpipe.report import claim_results as results
from segpipe.report import claim_rules as rules
from segpipe.report.claim_rules import Rule, by_authors
from segpipe.report.evidence import WORDS, Answer, Evidence

CLAIM, TRIPOD = "CLAIM 2024", "TRIPOD+AI"


@dataclass(frozen=True)
class Item:
    """One item: its number, where it belongs, what it asks, the items of TRIPOD+AI that ask alike, and its rule."""

    number: str
    section: str
    topic: str
    alike: str
    rule: Rule


CLAIM_ITEMS = (
    Item("1", "Title", "AI method named in the title, with its kind", "1", rules.identified),
    Item("2", "Abstract", "Summary of design, methods, results, conclusions", "2", rules.summarised),
    Item(
        "3",
        "Introduction",
        "Background, intended use, role of the AI",
        "3a, 3b",
        by_authors("background", "intended_use"),
    ),
    Item("4", "Introduction", "Aims, objectives, hypotheses", "4", by_authors("aims", "hypotheses")),
    Item("5", "Study design", "Prospective or retrospective", "5a", by_authors("design")),
    Item("6", "Study design", "Goal of the study", "4", by_authors("goal")),
    Item("7", "Data", "Sources of the data", "5a, 6a", rules.sources),
    Item("8", "Data", "Criteria of inclusion and exclusion", "6b", rules.criteria),
    Item("9", "Data", "Preprocessing", "7", rules.preprocessed),
    Item("10", "Data", "Selection of parts of the data", "7", rules.subsets),
    Item("11", "Data", "De-identification", "", by_authors("deidentification")),
    Item("12", "Data", "Handling of missing data", "11", rules.missing),
    Item("13", "Data", "Acquisition of the images", "9a", rules.acquired),
    Item("14", "Reference standard", "How the reference was obtained", "8a", by_authors("reference_standard")),
    Item("15", "Reference standard", "Why this reference", "8a", by_authors("reference_rationale")),
    Item("16", "Reference standard", "Who annotated", "8b", by_authors("annotators")),
    Item("17", "Reference standard", "Annotation of the test set", "8c", by_authors("test_annotation")),
    Item("18", "Reference standard", "Variability between and within raters", "8b", rules.rated),
    Item("19", "Partitions", "How cases were assigned to parts", "12a", rules.assigned),
    Item("20", "Partitions", "Level at which parts are disjoint", "12a", rules.disjoint),
    Item("21", "Test data", "Intended sample size", "10", rules.sized),
    Item("22", "Model", "Description of the model", "12c, 22", rules.modelled),
    Item("23", "Model", "Software, libraries, versions", "18f", rules.software),
    Item("24", "Model", "Initial parameters", "12c", rules.initialised),
    Item("25", "Training", "Training procedure and hyperparameters", "12c", rules.trained),
    Item("26", "Training", "Choice of the final model", "12c", rules.selected),
    Item("27", "Training", "Ensembles", "12c", rules.ensembled),
    Item("28", "Evaluation", "Metrics", "12e", results.measured),
    Item("29", "Evaluation", "Statistics and uncertainty", "12e", results.sure),
    Item("30", "Evaluation", "Robustness or sensitivity", "12d", results.robust),
    Item("31", "Evaluation", "Explanation or interpretation", "15", results.explained),
    Item("32", "Evaluation", "Evaluation on internal data", "12a", results.internal),
    Item("33", "Evaluation", "Test on external data", "12a", results.external),
    Item("34", "Evaluation", "Registration of the trial", "18d", by_authors("registration")),
    Item("35", "Results", "Numbers included and excluded", "20a", results.flowed),
    Item("36", "Results", "Characteristics of the cases of each part", "20b, 20c", results.described),
    Item("37", "Results", "Performance with uncertainty", "23a", results.performed),
    Item("38", "Results", "Diagnostic performance and its precision", "23a", results.estimated),
    Item("39", "Results", "Analysis of failures", "23b", results.failed),
    Item("40", "Discussion", "Limitations", "26", results.limited),
    Item("41", "Discussion", "Implications for practice", "25, 27c", by_authors("implications")),
    Item("42", "Other", "Protocol or further technical details", "18c", results.protocol),
    Item("43", "Other", "Availability of software, model, data", "18e, 18f", results.available),
    Item("44", "Other", "Funding and the role of funders", "18a", by_authors("funding")),
)
TRIPOD_ITEMS = (
    Item("5b", "Methods", "Dates of the data", "", by_authors("period")),
    Item("13", "Methods", "Imbalance of classes", "", results.balanced),
    Item("14", "Methods", "Fairness", "", results.fair),
    Item("17", "Methods", "Ethical approval", "", by_authors("ethics")),
    Item("18b", "Open science", "Conflicts of interest", "", by_authors("conflicts")),
    Item("19", "Involvement", "Patients and the public", "", by_authors("patient_involvement")),
    Item("27a", "Discussion", "Poor or missing input", "", results.faulty_input),
    Item("27b", "Discussion", "Users and their expertise", "", by_authors("intended_use")),
)
"""Those that CLAIM has no item for."""


@dataclass(frozen=True)
class Filled:
    """An item and its answer."""

    guideline: str
    item: Item
    answer: Answer

    @property
    def status(self) -> str:
        """How far it is fulfilled, in words."""
        return WORDS[self.answer.status]


def checklist(known: Evidence) -> list[Filled]:
    """Return every item with its answer; one that points to a chapter that the page lacks points nowhere."""
    return list(_filled(known))


def _filled(known: Evidence) -> Iterator[Filled]:
    for guideline, items in ((CLAIM, CLAIM_ITEMS), (TRIPOD, TRIPOD_ITEMS)):
        for item in items:
            answer = item.rule(known)
            place = answer.place if answer.place in known.chapters else ""
            yield Filled(guideline, item, Answer(answer.status, answer.text, place))


def told(filled: Sequence[Filled]) -> str:
    """Return in a sentence how many items of CLAIM are filled, and that the others are not."""
    own = [one for one in filled if one.guideline == CLAIM]
    counts = Counter(one.answer.status for one in own)
    done = counts["run"] + counts["stated"]
    open_ = [one.item.number for one in own if one.answer.status not in ("run", "stated")]
    said = (
        f"Of {len(own)} items of CLAIM 2024, {counts['run']} are filled from the run and {counts['stated']} by what "
        f"the authors stated; {counts['partly']} are filled in part, {counts['authors']} are for the authors, and "
        f"{counts['absent']} were not done."
    )
    return said + (f" It is not complete: {', '.join(open_)} are open." if done < len(own) else "")


def as_csv(filled: Sequence[Filled]) -> str:
    """Return the checklist as a table for other programs."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("guideline", "item", "section", "topic", "tripod_ai", "status", "text", "place"))
    for one in filled:
        place = f"report.html#{one.answer.place}" if one.answer.place else ""
        item = one.item
        writer.writerow(
            (one.guideline, item.number, item.section, item.topic, item.alike, one.status, one.answer.text, place)
        )
    return text.getvalue()


def as_markdown(filled: Sequence[Filled]) -> str:
    """Return the checklist as Markdown, to be pasted into a manuscript's supplement."""
    lines = [f"# Checklist\n\n{told(filled)}\n"]
    for guideline in (CLAIM, TRIPOD):
        lines.append(f"## {guideline}\n\n| item | section | topic | status | where and how |\n|---|---|---|---|---|")
        for one in filled:
            if one.guideline == guideline:
                where = (
                    f"{one.answer.text} (report, chapter {one.answer.place})" if one.answer.place else one.answer.text
                )
                cells = (one.item.number, one.item.section, one.item.topic, one.status, where)
                lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
        lines.append("")
    return "\n".join(lines)
