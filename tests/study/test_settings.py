"""A study's file: what it may say, and what is refused."""

import re
from pathlib import Path

import pytest

from segpipe.core.errors import ConfigError
from segpipe.shipped import shipped_names
from segpipe.study.settings import STUDIES, StudyConfig, load_study

SMALL = "config: default\nconditions:\n  scratch:\n  fast: [train.optim.learning_rate=2e-3]\n"


def written(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text)
    return str(path)


def test_a_condition_may_change_nothing(tmp_path: Path) -> None:
    study, config = load_study(written(tmp_path, SMALL))
    assert study.conditions == {"scratch": (), "fast": ("train.optim.learning_rate=2e-3",)}
    assert config.name == "default.yaml"


def test_the_configuration_may_lie_beside_the_study(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("ingest: {}\n")
    _, config = load_study(written(tmp_path, SMALL.replace("default", "base.yaml")))
    assert config == tmp_path / "base.yaml"


@pytest.mark.parametrize("name", shipped_names(STUDIES))
def test_every_study_that_ships_is_valid_and_has_its_controls(name: str) -> None:
    study, config = load_study(name)
    assert config.is_file()
    assert study.controls
    assert any("train.transfer.shuffle=true" in own for own in study.conditions.values())
    alone = [own[0] for own in study.conditions.values() if len(own) == 1]
    assert any(change.startswith("train.optim.learning_rate=") for change in alone)


def test_there_is_a_study_that_ships() -> None:
    assert shipped_names(STUDIES)


def test_each_condition_is_compared_with_the_baseline_and_then_with_its_controls() -> None:
    study = StudyConfig.model_validate(
        {"conditions": {"scratch": [], "a": [], "b": []}, "controls": {"b": ["a", "scratch"]}}
    )
    assert study.pairs() == [("a", "scratch"), ("b", "scratch"), ("b", "a")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SMALL + "baseline: nought\n", "baseline: there is no condition 'nought'. There are: scratch, fast."),
        (SMALL + "controls: {fast: [shuffled]}\n", "controls: there is no condition 'shuffled'"),
        (SMALL + "labels: [4, 4]\n", "stands there twice"),
        (SMALL + "labels: [0]\n", "labels.0: Input should be greater than 0"),
        (SMALL + "labels: []\n", "labels: Tuple should have at least 1 item"),
        (SMALL + "seedz: 4\n", "seedz: a study has no such setting. It has: kind, config"),
        (SMALL + "settings: [train.labels=3]\n", "settings: train.labels is what the study itself sets. Take it out."),
        (SMALL.replace("optim.learning_rate", "fit.seed"), "conditions.fast: train.fit.seed is what the study itself"),
        (SMALL.replace("fast", "a|b"), "conditions.a|b: String should match pattern"),
        ("config: default\nconditions: {scratch: }\n", "conditions: Dictionary should have at least 2 items"),
        ("config: default\n", "conditions: is needed."),
        (SMALL.replace("default", "nowhere"), "config: nowhere: there is no such file"),
        ("just words", "valid dictionary"),
        ("a: [", "no valid YAML"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_file_and_the_key(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)) as caught:
        load_study(written(tmp_path, text))
    assert "mine.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_study_that_is_not_there_is_told_with_those_that_ship() -> None:
    with pytest.raises(ConfigError, match=r"nought: there is no such study. .*hippocampus"):
        load_study("nought")
