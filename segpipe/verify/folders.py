"""Links inside the store: latest to folders, receipts to receipts, files to receipts, the report to the files."""

import html
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from segpipe.core.contents import SUMS, Sums, files_in, read_sums
from segpipe.core.errors import ArtifactError
from segpipe.core.fingerprint import file_sha256
from segpipe.core.store import RECEIPT, seal_of
from segpipe.latest import BESIDE_MODEL, KEPT, LATEST
from segpipe.verify.chain import Chain, Kept, has_receipt, shown_by
from segpipe.verify.looks import Link, Look, broken, differs

STATED = re.compile(r'<tr data-file="([^"]+)">.*?<td class="l id">([0-9a-f]{64})</td>', re.DOTALL)
"""A row of the report that states the hash of a file."""
PAGE = "report.html"


def latest_link(chain: Chain) -> Link:
    """Every name in ``latest`` leads to a finished folder of the same run."""
    folder = chain.store / LATEST
    if not folder.is_dir():
        return Link("latest to results", note="there is no folder 'latest'; every finished folder was looked at")
    rests = chain.kept
    looks = [
        Look(f"{LATEST}/{name}", partial(_led, folder / name, stage, inside, chain))
        for name, (stage, inside) in KEPT.items()
        if (folder / name).is_symlink() or (folder / name).exists() or any(one.stage == stage for one in rests.values())
    ]
    return Link("latest to results", looks)


def _led(entry: Path, stage: str, inside: str, chain: Chain) -> str:
    there = [kept for kept in chain.of(stage) if not inside or (kept.path / inside).exists()]
    if not entry.exists():
        return "leads nowhere. Run again to mend it" if entry.is_symlink() or there else ""
    links = [entry] if entry.is_symlink() else [one for one in entry.glob("*") if one.is_symlink()]
    for link in links:
        kept = chain.kept.get(shown_by(link))
        if kept is None or not _fits(link, entry, kept, stage, inside):
            return f"does not lead to '{inside or stage}' of a finished result. Run again to mend it"
    if not links and entry.is_file():  # copied, where links are impossible
        found = file_sha256(entry)
        if found not in {file_sha256(kept.path / inside) for kept in there}:
            return f"is no copy of '{inside}' of a finished result. Run again to mend it"
    return ""


def _fits(link: Path, entry: Path, kept: Kept, stage: str, inside: str) -> bool:
    """Tell whether a link leads to what its name says: the whole of it, or its own file within a gathered folder."""
    whole = (kept.path / inside).resolve()
    if kept.stage == stage:
        return link.resolve() in (whole, whole / link.name) if link != entry else link.resolve() == whole
    beside, names = BESIDE_MODEL
    return kept.stage == beside and link.name in names and link.resolve() == (kept.path / link.name).resolve()


def receipts_link(chain: Chain) -> Link:
    """Every receipt says what it said when it was written, and what it was made from is there, as it was."""
    looks = [Look(f"{kept.name}/{RECEIPT}", partial(_receipt_fault, kept)) for kept in chain.kept.values()]
    for kept in chain.kept.values():
        looks += [Look(f"{kept.name}/{RECEIPT}", partial(_input_fault, kept, key, chain)) for key in kept.inputs]
    unsealed = sum(has_receipt(kept) and "seal" not in kept.receipt for kept in chain.kept.values())
    note = f"{unsealed} made before receipts were sealed" if unsealed else ""
    return Link("receipts to receipts", looks, note)


def _receipt_fault(kept: Kept) -> str:
    if not has_receipt(kept):
        return "is missing or cannot be read; the folder does not count as finished, and the next run makes it anew"
    said = (kept.receipt.get("stage"), kept.receipt.get("fingerprint"))
    if said != (kept.stage, kept.fingerprint):
        return f"is that of {said[0]}/{said[1]}, and lies in another folder"
    if "seal" in kept.receipt and seal_of(kept.receipt) != kept.receipt["seal"]:
        return "was changed after it was written (its seal does not fit)"
    return ""


def _input_fault(kept: Kept, key: str, chain: Chain) -> str:
    name = kept.inputs[key]
    if (above := chain.kept.get(name)) is None:
        return f"was made from {name}, which is not there"
    wanted = (kept.receipt.get("inputs_contents") or {}).get(key)
    found = above.receipt.get("contents")
    if wanted and found != wanted:
        return f"was made from another {name} than the one that is there (its files are not the same)"
    return ""


def files_link(chain: Chain) -> Link:
    """Every file of a finished folder is the one that its stage wrote, and none was added or lost."""
    looks: list[Look] = []
    without = 0
    for kept in chain.kept.values():
        if "contents" in kept.receipt:
            looks += _files_of(kept)
        elif has_receipt(kept):
            without += 1
    note = f"{without} made before hashes were kept: their files cannot be looked at" if without else ""
    return Link("files to receipts", looks, note)


def _files_of(kept: Kept) -> Iterator[Look]:
    listed = f"{kept.name}/{SUMS}"
    yield Look(listed, lambda: differs(file_sha256(kept.path / SUMS), kept.receipt["contents"], "the receipt"))
    try:
        sums = read_sums(kept.path)
    except ArtifactError as error:
        yield broken(listed, str(error))
        return
    for name in sums:
        yield Look(f"{kept.name}/{name}", partial(_file_fault, kept.path, name, sums))
    for name in files_in(kept.path):
        # a hidden file is one that a file manager left there
        if name not in sums and name not in (SUMS, RECEIPT) and not name.rpartition("/")[2].startswith("."):
            yield broken(f"{kept.name}/{name}", "was added after the stage was done")


def _file_fault(folder: Path, name: str, sums: Sums) -> str:
    path = folder / name
    return differs(file_sha256(path), sums[name], SUMS) if path.is_file() else "is missing"


def report_link(chain: Chain) -> Link:
    """Every hash that a report states is that of the file it names."""
    looks: list[Look] = []
    silent = 0
    for kept in chain.of("report"):
        page = kept.path / PAGE
        stated = STATED.findall(page.read_text(encoding="utf-8", errors="replace")) if page.is_file() else []
        silent += not stated
        looks += [
            Look(f"{kept.name}/{PAGE}", partial(_stated_fault, chain.store, html.unescape(name), sha256))
            for name, sha256 in stated
        ]
    return Link("report to files", looks, f"{silent} that states no hashes" if silent else "")


def _stated_fault(store: Path, name: str, sha256: str) -> str:
    if not (store / name).is_file():
        return f"states the hash of {name}, which is not there"
    said = differs(file_sha256(store / name), sha256, "the report")
    return f"states the hash of another {name}: {said}" if said else ""
