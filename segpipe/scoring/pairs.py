"""Which prediction belongs to which reference: two folders, matched by the names of their files."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from segpipe.core.errors import DataError
from segpipe.dataset.manifest import Refusal
from segpipe.dataset.sources.found import FIRST, images_in, safe_id
from segpipe.imaging.files import SUFFIXES, stem_of


@dataclass(frozen=True)
class Pair:
    """A prediction and its reference."""

    case: str
    prediction: Path
    reference: Path


def pair_up(predictions: Path, references: Path) -> tuple[list[Pair], list[Refusal]]:
    """Return the pairs by case, and one refusal for each file that has no partner or whose name is taken.

    Names are compared without suffixes; where that finds no partner, without the ``_0000`` at the end that nnU-Net
    gives to images.

    Raises:
        DataError: A folder is missing, or holds no label maps.
    """
    found, wanted = _by_stem(predictions), _by_stem(references)
    partners = _partners(found, wanted)
    pairs: dict[str, list[Pair]] = defaultdict(list)
    refused = []
    for stem, files in wanted.items():
        others = found.get(partners.get(stem, ""), [])
        case = safe_id(stem)
        if taken := [group for group in (files, others) if len(group) > 1]:
            names = ", ".join(path.name for path in taken[0])
            refused.append(Refusal(case, f"{names}: files of one name. Keep one of them."))
        elif not others:
            refused.append(Refusal(case, f"{files[0].name}: there is no prediction of this name."))
        else:
            pairs[case].append(Pair(case, others[0], files[0]))
    refused += [
        Refusal(safe_id(stem), f"{found[stem][0].name}: there is no reference of this name.")
        for stem in found.keys() - set(partners.values())
    ]
    single = [group[0] for group in pairs.values() if len(group) == 1]
    for case, group in pairs.items():
        if len(group) > 1:
            names = ", ".join(pair.reference.name for pair in group)
            refused.append(Refusal(case, f"{names}: would be one case, '{case}'. Rename them."))
    return sorted(single, key=lambda pair: pair.case), sorted(refused, key=lambda refusal: refusal.case)


def _by_stem(folder: Path) -> dict[str, list[Path]]:
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder. Give the folder of the label maps.")
    stems: dict[str, list[Path]] = defaultdict(list)
    for path in images_in(folder):
        stems[stem_of(path)].append(path)
    if not stems:
        raise DataError(f"{folder}: holds no label maps ({', '.join(SUFFIXES)}). Give the folder that does.")
    return dict(stems)


def _partners(found: Mapping[str, object], wanted: Mapping[str, object]) -> dict[str, str]:
    """Return the prediction's stem for each reference's stem that has one."""
    partners = {stem: stem for stem in wanted if stem in found}
    free = {stem.removesuffix(FIRST): stem for stem in found if stem not in partners}
    return partners | {
        stem: free[stem.removesuffix(FIRST)]
        for stem in wanted
        if stem not in partners and stem.removesuffix(FIRST) in free
    }
