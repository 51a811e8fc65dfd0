"""The model card: what a model draws, on what, how good it is, and what nobody knows about it.

Headings follow Mitchell et al. 2019 (Model Cards for Model Reporting, arXiv 1810.03993); the facts about
input and output are those of a MONAI bundle's metadata.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from segpipe.dataset.manifest import EVERY
from segpipe.dataset.plan import Plan
from segpipe.imaging.intensity import Normalise, Window
from segpipe.imaging.labels import Structure
from segpipe.nets.unet import UNetSpec
from segpipe.predict.origin import Origin, spacing_range

UNSTATED = "Not stated: the owner of the training data decides."
TARGETS = {
    "classes": "one class a voxel",
    "regions": "a yes or no for each structure; where two overlap, the lower one of the table is written",
    "signed_distance": "the signed distance to each structure's border",
}


@dataclass(frozen=True)
class Facts:
    """All that a card is written from."""

    plan: Plan
    spec: UNetSpec
    origin: Origin
    parameters: int
    weights_bytes: int
    weights_sha256: str
    versions: dict[str, str]


def model_card(facts: Facts) -> str:
    """Return the card as Markdown; the same facts give the same text."""
    chapters = (
        ("Model details", _details(facts)),
        ("Intended use", _use(facts)),
        ("How to use it", _how(facts)),
        ("What it draws", _output(facts)),
        ("What it needs", _input(facts)),
        ("Training data and training", _training(facts)),
        ("Figures", _figures(facts)),
        ("Limits", _limits(facts)),
        ("Files", _files()),
    )
    names = ", ".join(_plain(name) for name in facts.plan.labels.names)
    head = f"# {_plain(facts.plan.dataset)}: segmentation of {names}"
    texts = [head, "Not a medical device: for research, not for diagnosis."]
    for title, lines in chapters:
        texts += [f"## {title}", "\n".join(lines)]
    return "\n\n".join(texts) + "\n"


def _details(facts: Facts) -> Iterator[str]:
    encoder, export = facts.spec.encoder, facts.origin.export
    steps, widths = _counted(encoder.depth, "encoding step"), _numbers(encoder.widths)
    yield from _table(
        ("", ""),
        ("Network", f"U-Net in {encoder.rank}D, {steps}, widths {widths}, `{encoder.padding}` convolutions"),
        ("Parameters", f"{facts.parameters:,}"),
        ("Size of the weights", f"{facts.weights_bytes / 1e6:.3g} MB"),
        ("SHA-256 of the weights", f"`{facts.weights_sha256}`"),
        ("Made with", ", ".join(f"{name} {version}" for name, version in facts.versions.items())),
        ("Authors", export.authors or "Not stated."),
        ("Licence of the weights", export.licence or UNSTATED),
    )


def _use(facts: Facts) -> Iterator[str]:
    channels = _listed([channel.name for channel in facts.plan.channels])
    yield _plain(facts.origin.export.intended_use) or (
        f"Not stated by its authors. What it was trained for: drawing the structures below on {channels} images "
        "like those of the training data, for research."
    )
    yield ""
    yield "Not for diagnosis or treatment, and not for images without a person who looks at the result."


def _how(facts: Facts) -> Iterator[str]:
    channels, picture = facts.plan.channels, _takes_pictures(facts.plan)
    several = len(channels) > 1 and not picture
    suffix = ".png" if picture else ".nii.gz"
    names = [f"scan_{index:04d}{suffix}" for index in range(len(channels))] if several else [f"scan{suffix}"]
    yield "```\nsegpipe predict THIS_FOLDER SCANS -o OUT\n```\n"
    if several:
        files = _listed([f"`{name}` ({channel.name})" for name, channel in zip(names, channels, strict=True)])
        yield f"A scan is {len(names)} files on one grid, such as {files}, or one file with a fourth axis."
    yield "In Python:\n"
    yield "```python\nfrom pathlib import Path\n"
    yield "from segpipe.dataset.manifest import CaseFiles\nfrom segpipe.dataset.load import load_image"
    yield "from segpipe.imaging.files import write_volume\nfrom segpipe.predict.segmenter import Segmenter\n"
    paths = " ".join(f'Path("{name}"),' for name in names)
    reading = ", reading=segmenter.plan.reading" if picture else ""
    yield 'segmenter = Segmenter.load(Path("THIS_FOLDER"))'
    yield f'scan = CaseFiles("scan", ({paths}), None{reading})'
    yield "labels = segmenter(load_image(scan))  # on the grid of the file"
    unit = ", unit=scan.reading.unit" if picture else ""
    yield f'write_volume(Path("labels{suffix}"), labels, header_of=scan.images[0]{unit})\n```'


def _output(facts: Facts) -> Iterator[str]:
    plan = facts.plan
    yield "A label map on the grid of the input file; 0 is background.\n"
    rows = [
        (
            structure.name,
            _numbers(_written(structure, plan)),
            _numbers(structure.values),
        )
        for structure in plan.labels.structures
    ]
    yield from _table(("structure", "value in the map", "label values in the training data"), *rows)
    yield f"\nThe network draws {TARGETS[plan.target.kind]}."


def _written(structure: Structure, plan: Plan) -> tuple[int, ...]:
    return structure.values if plan.target.kind == "classes" else (structure.paint,)


def _input(facts: Facts) -> Iterator[str]:
    plan = facts.plan
    rows = [
        (str(index), channel.name, _normalised(kind))
        for index, (channel, kind) in enumerate(zip(plan.channels, plan.normalise, strict=True))
    ]
    yield from _table(("channel", "image", "normalised by segpipe to"), *rows)
    sign, flat = plan.reading.sign, len(plan.spacing) == 2
    taken = (
        "Images of any size and spacing are taken. Inside, they are"
        if flat
        else "Images of any orientation and spacing are taken. Inside, they are turned to RAS and"
    )
    yield (
        f"\n{taken} resampled to {_size(plan.spacing)} {sign}; the network sees {_size(plan.patch)} "
        f"{'pixels' if flat else 'voxels'} at a time."
    )


def _normalised(kind: Normalise) -> str:
    if isinstance(kind, Window):
        return f"values clipped to {kind.low:g} to {kind.high:g}, minus {kind.mean:g}, divided by {kind.sd:g}"
    return {"z_score": "mean 0 and standard deviation 1 in each image", "unchanged": "nothing: values as they are"}[
        kind.kind
    ]


def _training(facts: Facts) -> Iterator[str]:
    told = facts.origin.trained_on(facts.plan.dataset)
    sources = [f"{stage} `{name}`" for stage, name in told["made_from"].items()]
    yield from _table(
        ("", ""),
        ("Data set", told["dataset"]),
        ("Training cases", f"{told['cases']}, of {_counted(told['subjects'], 'subject')}"),
        ("SHA-256 over the content of their files", f"`{told['cases_sha256']}`"),
        ("Spacing of their images", _range(*spacing_range(facts.origin.training), facts.plan.reading.sign)),
        ("Fold held out", "none" if told["fold"] == EVERY else str(told["fold"])),
        ("Steps", f"{told['steps']:,}"),
        ("Seed", str(told["seed"])),
        *([("Made from the artifacts", ", ".join(sources))] if sources else []),
    )
    yield "\nEvery setting that decided the weights: `settings.json`."


def _figures(facts: Facts) -> Iterator[str]:
    told = facts.origin.validated_on()
    if not told["figures"] or not told["cases"]:
        yield "None were measured while it was trained. Measure them on images of your own before you use it."
        return
    rows = [(_figure(name), f"{value:.3f}") for name, value in told["figures"].items()]
    yield from _table(("figure", "validation"), *rows)
    yield (
        f"\nMeasured on the {_counted(told['cases'], 'validation case')} of fold {facts.origin.fold}, of "
        f"{_counted(told['subjects'], 'subject')}, on whole images at the spacing of the network; none of them was "
        "trained on."
    )
    yield (
        "The weights were chosen by these figures, which are therefore somewhat too good."
        if told["chose_the_weights"]
        else "The weights were not chosen by these figures."
    )
    yield "They are means over cases; nothing is known about groups of age, sex, disease, scanner or site."


def _figure(name: str) -> str:
    if name == "dice":
        return "Dice, mean over structures"
    return f"Dice, {name.removeprefix('dice_')}" if name.startswith("dice_") else name


def _limits(facts: Facts) -> Iterator[str]:
    plan, cases = facts.plan, facts.origin.training
    subjects = _counted(len({case.subject for case in cases}), "subject")
    known = _listed([channel.name for channel in plan.channels])
    for sentence in (
        "Not a medical device: for research, not for diagnosis.",
        f"It has seen {_counted(len(cases), 'image')} of {subjects}, all from the data set "
        f"'{_plain(plan.dataset)}'. How it does on other scanners, protocols, sites, ages and diseases was not tested.",
        f"Their spacing was {_range(*spacing_range(cases), plan.reading.sign)}. Coarser and finer images are taken, "
        "but were not tested.",
        f"It cannot tell whether an image is {known}, or shows the right part of the body: it draws in any case.",
        "What is none of the structures above is drawn as background, or taken for one of them.",
        "No figure on this card is of an untouched test set: that one is scored in the report of `segpipe run`.",
        "Weights that learnt from people can hold traces of them. Pass them on only as the owner of the data allows.",
    ):
        yield f"- {sentence}"


def _files() -> Iterator[str]:
    yield from _table(
        ("file", "holds"),
        ("`weights.safetensors`", "the weights; no code"),
        ("`model.json`", "network, preprocessing, structures, provenance, and the hash of the weights"),
        ("`settings.json`", "the settings that decided the weights"),
        (
            "`selftest.json`",
            "where it is there: what this folder drew of one scan when it was written, the same voxels as the network "
            "in training. `prediction_sha256` is that of `labels.array.tobytes()`; other hardware may round otherwise, "
            "and then the numbers of voxels are close",
        ),
    )


def _table(head: Sequence[str], *rows: Sequence[str]) -> Iterator[str]:
    yield _row(head)
    yield "|" + " --- |" * len(head)
    for row in rows:
        yield _row(row)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_plain(cell) for cell in cells) + " |"


def _plain(text: str) -> str:
    """Return text on one line that no table, heading or HTML reader takes apart."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _listed(names: Sequence[str]) -> str:
    words = [_plain(name) for name in names]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _numbers(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))


def _size(values: Sequence[float]) -> str:
    return " x ".join(f"{value:g}" for value in values)


def _range(low: Sequence[float], high: Sequence[float], sign: str) -> str:
    along = [
        f"{a:.3g} {sign} along {axis}" if f"{a:.3g}" == f"{b:.3g}" else f"{a:.3g} to {b:.3g} {sign} along {axis}"
        for a, b, axis in zip(low, high, "xy" if len(low) == 2 else "RAS", strict=True)
    ]
    return _listed(along)


def _takes_pictures(plan: Plan) -> bool:
    return len(plan.spacing) == 2 and not plan.reading.flat
