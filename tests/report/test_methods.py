"""The methods in sentences: what was done, and nothing else."""

import pytest

from segpipe.learn.optim import OptimConfig
from segpipe.report.material import Receipt
from segpipe.report.methods import views
from segpipe.report.methods_training import augmentation, optimiser
from segpipe.report.wording import percent


def told(augment: dict[str, object]) -> str:
    return " ".join(augmentation(Receipt("train", "abc", {"settings": {"train": {"augment": augment}}}), 3))


def test_shares_are_told_where_no_list_is_given() -> None:
    text = told({"spatial": 0.5, "noise": 0.0, "albumentations": []})
    assert text == f"Patches were varied by rotation and scaling ({percent(0.5)})."


def test_a_list_of_transforms_is_told_in_its_order_and_nothing_beside_it() -> None:
    text = told({"spatial": 0.5, "albumentations": [{"D4": {}}, {"OneOf": {"transforms": [{"Blur": {}}], "p": 0.5}}]})
    assert text == "Patches were varied by transforms of albumentations, in this order: D4 and OneOf (p 0.5)."


@pytest.mark.parametrize(
    ("window", "wanted"),
    [
        ({"mirror_axes": [], "quarter_turns": False}, []),
        ({"mirror_axes": [0]}, ["Predictions of images mirrored along x were averaged."]),
        ({"quarter_turns": True}, ["Predictions of images turned by quarters were averaged."]),
        (
            {"mirror_axes": [0, 1], "quarter_turns": True},
            ["Predictions of images mirrored along x and y and turned by quarters were averaged."],
        ),
    ],
)
def test_the_sides_that_an_image_was_predicted_from_are_told(window: dict[str, object], wanted: list[str]) -> None:
    assert list(views(window, 2)) == wanted


@pytest.mark.parametrize(
    ("optim", "wanted"),
    [
        (OptimConfig(kind="adamw"), "AdamW"),
        (OptimConfig(kind="muon"), "Muon for the convolutions between feature maps and AdamW for all else,"),
        (OptimConfig(kind="sgd", momentum=0.9), "SGD with a Nesterov momentum of 0.9,"),
        (OptimConfig(kind="sgd", nesterov=False), "SGD with a momentum of 0.99,"),
    ],
)
def test_the_optimiser_is_told_with_what_it_needs_to_be_done_again(optim: OptimConfig, wanted: str) -> None:
    assert optimiser(optim.model_dump()) == wanted
