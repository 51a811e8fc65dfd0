"""Settings: a wrong one is named with what it might have been, a right one means what it looks like."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from phantoms import segpipe

from segpipe.config import Config, describe, explain, flat, load_config
from segpipe.core.errors import ConfigError
from segpipe.shipped import shipped_folder, shipped_names

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs" / "config.md"
MENUS = {"ingest.source": "msd", "train.loss": "dice_ce", "preprocess.target": "classes", "preprocess.weight": "border"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text("ingest: {source: {kind: msd, root: data}}\n")
    return path


def value_of(config: Config, key: str) -> Any:
    value: Any = config
    for name in key.split("."):
        value = getattr(value, name)
    return value


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("train.optim.lerning_rate=1", "learning_rate"),
        ("train.fit.step=5", "steps"),
        ("ingest.split.test_frction=0.1", "test_fraction"),
        ("modle.features=8", "model"),
        ("run.executor.worker=2", "workers"),
        ("ingest.source.rot=x", "root"),
        ("preprocess.plan.spacings=[1,1,1]", "spacing"),
    ],
)
def test_an_unknown_key_is_told_the_near_one(file: Path, text: str, near: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(file, [text])
    told = str(caught.value)
    wrong = text.partition("=")[0].removesuffix(".features")  # a wrong section is named, not a key inside of it
    assert told.startswith(f"{file}: 1 setting is wrong: {wrong}: ")
    assert f"there is no such setting. Did you mean {near}?" in told


def test_an_unknown_key_that_is_near_to_none_is_told_what_there_is(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.fit\.xyzzy: there is no such setting\. It has: .*steps"):
        load_config(file, ["train.fit.xyzzy=1"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train.fit.steps=many", "train.fit.steps = many: Input should be a valid integer"),
        ("train.fold=al", "train.fold = al: the number of a fold, from 0 on, or all"),
        ("train.fit.steps=-3", "train.fit.steps = -3: Input should be greater than 0"),
        ("ingest.split.test_fraction=1.5", "ingest.split.test_fraction = 1.5: Input should be less than 1"),
        ("run.tracking.kind=wandb", "run.tracking.kind = wandb: Input should be 'mlflow' or 'none'"),
        ("train.optim.learning_rate=.nan", "train.optim.learning_rate = nan: "),
        ("preprocess.plan.spacing=[1,0,1]", "preprocess.plan.spacing.1 = 0: Input should be greater than 0"),
    ],
)
def test_a_wrong_value_names_key_and_value(file: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(file, [text])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_kind_names_those_that_there_are(file: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(file, ["train.loss.kind=hinge"])
    assert "train.loss" in str(caught.value)
    assert all(kind in str(caught.value) for kind in ("hinge", "dice_ce", "dice_bce", "smooth_l1"))


def test_several_faults_are_told_at_once(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"2 settings are wrong: .*steps.*; .*seed"):
        load_config(file, ["train.fit.steps=x", "train.fit.seed=y"])


def test_what_is_needed_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("ingest: {source: {kind: msd}}\n")
    with pytest.raises(
        ConfigError, match=r"ingest\.source\.root: is needed\. Give the folder of the data set with --data"
    ):
        load_config(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("train.optim.learning_rate=1e-3", 1e-3),
        ("train.optim.learning_rate=2E-4", 2e-4),
        ("train.optim.learning_rate=0.5", 0.5),
        ("train.fit.steps=1e3", 1000),
        ("preprocess.plan.spacing=[1, 1.5, 2]", (1, 1.5, 2)),
        ("preprocess.plan.spacing=[1e-1,1,1]", (0.1, 1, 1)),
        ("preprocess.plan.spacing=null", None),
        ("preprocess.plan.spacing=", None),
        ("run.strict=true", True),
        ("ingest.subject_pattern='(sub-[0-9]+)'", "(sub-[0-9]+)"),
        ("ingest.subject_pattern=(sub-[0-9]+)", "(sub-[0-9]+)"),
        ("train.augment.mirror_axes=[]", ()),
        ("run.store=/somewhere/else", Path("/somewhere/else")),
    ],
)
def test_an_override_means_what_it_looks_like(file: Path, text: str, value: object) -> None:
    assert value_of(load_config(file, [text]), text.partition("=")[0]) == value


@pytest.mark.parametrize("text", ["train.fit.steps", "=3", "train..fit=3", "train.fit.steps 3", "--steps=3"])
def test_an_override_of_another_form_is_shown_how_it_is_written(file: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"a setting is written key=value, as in train\.fit\.steps=500"):
        load_config(file, [text])


@pytest.mark.parametrize("value", ["[1, 2", "{a: 1", "a: b: c", "'open"])
def test_an_override_that_is_no_yaml_names_key_and_value(file: Path, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(file, [f"preprocess.plan.spacing={value}"])
    assert "preprocess.plan.spacing" in str(caught.value)
    assert value in str(caught.value)


def test_of_two_overrides_of_one_key_the_later_one_holds(file: Path) -> None:
    assert load_config(file, ["train.fit.steps=5", "train.fit.steps=7"]).train.fit.steps == 7


def test_another_kind_starts_a_section_afresh(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "ingest: {source: {kind: folder, root: data, labels: {a: 1}}}\n"
        "preprocess: {target: {kind: signed_distance, clip_mm: 3}}\n"
    )
    assert load_config(path, ["preprocess.target.kind=classes"]).preprocess.target is not None
    moved = load_config(path, ["ingest.source.kind=msd", "ingest.source.root=other"]).ingest.source
    assert moved.model_dump(mode="json") == {"kind": "msd", "root": "other"}


def test_settings_that_another_kind_drops_are_told_and_those_set_anew_are_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "ingest: {source: {kind: msd, root: data}}\n"
        "preprocess: {weight: {kind: border, w0: 3, sigma_voxels: 2, balance: true}}\n"
    )
    load_config(path, ["ingest.source.root=other", "ingest.source.kind=nnunet"])
    assert caplog.messages == []
    load_config(path, ["preprocess.weight.kind=class_balance"])
    (said,) = caplog.messages
    assert said.startswith("preprocess.weight.kind=class_balance starts preprocess.weight afresh")
    assert "w0, sigma_voxels, balance" in said


def test_the_same_kind_leaves_a_section_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "ingest: {source: {kind: folder, root: data, labels: {a: 1}}}\nrun: {tracking: {uri: 'http://here'}}\n"
    )
    config = load_config(path, ["ingest.source.kind=folder", "run.tracking.kind=mlflow"])
    assert config.ingest.source.model_dump()["labels"] == {"a": 1}
    assert config.run.tracking.uri == "http://here"


def test_the_order_of_overrides_does_not_matter_to_a_kind(file: Path) -> None:
    texts = ["preprocess.target.clip_mm=4", "preprocess.target.kind=signed_distance"]
    there, back = (load_config(file, order) for order in (texts, texts[::-1]))
    assert there == back
    assert flat(there)["preprocess.target.clip_mm"] == 4


def test_the_short_option_for_the_data_survives_another_kind_of_source() -> None:
    ran = segpipe("config", "show", "--data", "scans", "ingest.source.kind=folder")
    assert ran.code == 0
    assert yaml.safe_load(ran.out)["ingest"]["source"]["root"] == "scans"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"ingest: [", "no valid YAML"),
        (b"ingest: {source: \xff}", "no valid YAML"),
        (b"- ingest", "expected sections such as 'ingest:'"),
        (b"", "ingest: is needed"),
        (b"just words", "expected sections"),
        (b"ingest: !!python/object/apply:os.system [exit]", "no valid YAML"),
    ],
)
def test_a_file_that_is_no_config_gives_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_config_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read"):
        load_config(Path("nowhere.yaml"))


@pytest.mark.parametrize("name", shipped_names("configs"))
def test_every_shipped_config_is_valid(name: str) -> None:
    overrides = ["ingest.source.root=data"]
    config = load_config(shipped_folder("configs") / f"{name}.yaml", overrides)
    assert str(value_of(config, "ingest.source").root) == "data"


def test_what_is_shown_is_a_config_again(tmp_path: Path) -> None:
    shown = segpipe("config", "show", "hippocampus", "train.fit.steps=12", "preprocess.weight.kind=border", "-o", "out")
    path = tmp_path / "shown.yaml"
    path.write_text(shown.out)
    config = load_config(path)
    assert config.train.fit.steps == 12
    assert config.run.store == Path("out")
    again = segpipe("config", "show", path)
    assert again.out == shown.out


def test_explain_tells_meaning_type_default_and_home() -> None:
    (line,) = explain("train.optim.learning_rate")
    assert line.startswith("train.optim.learning_rate: ")
    assert "float" in line
    assert "default 0.0" in line
    assert "segpipe.learn.optim" in line


def test_explain_tells_of_every_kind_that_knows_the_key() -> None:
    lines = explain("ingest.source.root")
    homes = [line.rsplit("segpipe.dataset.sources.", 1)[1].rstrip(")") for line in lines]
    assert homes == ["auto", "decathlon", "nnunet", "folder", "table"]


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("train.optim.learnin_rate", "train.optim.learning_rate"),
        ("trian", "train"),
        ("train.fit.stp", "train.fit.steps"),
    ],
)
def test_explain_names_the_near_key(key: str, near: str) -> None:
    with pytest.raises(ConfigError, match=f"Did you mean {near}"):
        explain(key)


def test_every_key_can_be_explained() -> None:
    keys = flat(load_config(shipped_folder("configs") / "default.yaml", ["ingest.source.root=data"]))
    for key in keys:
        (*_, line) = explain(key)
        assert line.startswith(f"{key}: "), key
        if not key.endswith(".kind"):
            assert line.removeprefix(f"{key}: ")[0] != "(", f"{key} has no meaning"


def test_the_documentation_holds_every_key_with_its_meaning() -> None:
    text = describe()
    keys = flat(load_config(shipped_folder("configs") / "default.yaml", ["ingest.source.root=data"]))
    for key in keys:
        section, last = key.rsplit(".", 1)
        if last != "kind" or section not in {*MENUS, "model"}:
            assert f"| `{key}` | " in text, key
    assert "Undefined" not in text
    assert all(line.count("|") == 4 for line in text.splitlines() if line.startswith("| `"))


def test_the_documentation_tells_every_kind() -> None:
    text = describe()
    for key, kind in MENUS.items():
        assert f"## `{key}` with `kind: {kind}`" in text
    assert "| `run.tracking.kind` | `'mlflow'` | " in text
    assert "`none`: nobody." in text


def test_the_page_of_settings_is_up_to_date() -> None:
    assert DOCS.read_text() == segpipe("config", "docs").out, "run: segpipe config docs > docs/config.md"


def test_settings_that_are_places_can_be_left_out() -> None:
    config = load_config(shipped_folder("configs") / "default.yaml", ["ingest.source.root=data", "run.store=out"])
    whole, told = flat(config), flat(config, places=False)
    assert {"ingest.source.root", "ingest.split.file", "run.store"} <= whole.keys() - told.keys()
    assert told.items() <= whole.items()
    assert {"ingest.split.seed", "train.fit.steps", "model.features"} <= told.keys()


@pytest.mark.parametrize(("section", "rate"), [("train", 8e-3), ("pretrain", 1e-3), ("qc.shapes", 2e-3)])
def test_another_setting_of_an_optimiser_leaves_the_rate_of_its_stage(file: Path, section: str, rate: float) -> None:
    found = load_config(file, [f"{section}.optim.warmup_steps=5"])
    for name in section.split("."):
        found = getattr(found, name)
    assert (found.optim.warmup_steps, found.optim.learning_rate) == (5, rate)


def test_a_config_cannot_be_changed(file: Path) -> None:
    config = load_config(file)
    with pytest.raises(ValueError, match="frozen"):
        config.run.strict = True  # type: ignore[misc]
