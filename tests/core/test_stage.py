"""What a stage is given."""

from pathlib import Path

import pytest

from segpipe.core.errors import ArtifactError
from segpipe.core.section import Section
from segpipe.core.stage import Artifact, Inputs, Stage, nothing_else


class Settings(Section):
    """Nothing."""


def test_inputs_give_the_folder_of_a_stage_that_ran() -> None:
    inputs = Inputs({"ingest": Artifact("ingest", "ab", Path("/w/ingest/ab"), {"cases": 3})})
    assert inputs["ingest"] == inputs.get("ingest") == Path("/w/ingest/ab")
    assert inputs.summary("ingest") == {"cases": 3}


def test_a_stage_that_did_not_run_is_none_or_one_line_that_names_it() -> None:
    inputs = Inputs({})
    assert inputs.get("train") is None
    assert inputs.summary("train") == {}
    with pytest.raises(ArtifactError, match=r"stage 'train' is needed first.*run train") as caught:
        inputs["train"]
    assert "\n" not in str(caught.value)


def test_a_stage_needs_nothing_and_decides_by_settings_alone_unless_it_says_so() -> None:
    stage = Stage("toy", Settings, lambda settings, inputs, work: {})
    assert (stage.needs, stage.may_use, stage.version) == ((), (), 1)
    assert stage.identity is nothing_else
    assert stage.identity(Settings()) is None
