"""The methods in sentences: what was done, and nothing else."""

from segpipe.report.material import Receipt
from segpipe.report.methods_training import augmentation
from segpipe.report.wording import percent


def told(augment: dict[str, object]) -> str:
    return " ".join(augmentation(Receipt("train", "abc", {"settings": {"train": {"augment": augment}}}), 3))


def test_shares_are_told_where_no_list_is_given() -> None:
    text = told({"spatial": 0.5, "noise": 0.0, "albumentations": []})
    assert text == f"Patches were varied by rotation and scaling ({percent(0.5)})."


def test_a_list_of_transforms_is_told_in_its_order_and_nothing_beside_it() -> None:
    text = told({"spatial": 0.5, "albumentations": [{"D4": {}}, {"OneOf": {"transforms": [{"Blur": {}}], "p": 0.5}}]})
    assert text == "Patches were varied by transforms of albumentations, in this order: D4 and OneOf (p 0.5)."
