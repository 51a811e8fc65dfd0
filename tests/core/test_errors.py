"""What the user is told, and the exit code that goes with it."""

import pickle

import pytest

from segpipe.core.errors import (
    ArtifactError,
    ConfigError,
    DataError,
    Exit,
    FailedCasesError,
    GeometryError,
    LockedError,
    MachineError,
    SegpipeError,
    StopRequestError,
)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (ConfigError, 2),
        (DataError, 2),
        (GeometryError, 2),
        (ArtifactError, 2),
        (MachineError, 4),
        (LockedError, 5),
        (StopRequestError, 75),
    ],
)
def test_each_kind_of_error_has_its_exit_code(kind: type[SegpipeError], code: int) -> None:
    assert issubclass(kind, SegpipeError)
    assert int(kind("what and how").code) == code
    assert int(Exit.FINE) == 0
    assert int(Exit.QUARANTINED) == 3


def test_failed_cases_are_counted_and_named_on_one_line() -> None:
    error = FailedCasesError({"a": DataError("a.nii: is empty.\nFetch it."), "b": ValueError("odd\n thing")})
    assert str(error) == (
        "2 case(s) failed, the others are done. a: a.nii: is empty. Fetch it. | b: ValueError: odd thing"
    )
    assert error.code is Exit.UNUSABLE


def test_of_many_failures_five_are_spelled_out_and_the_rest_counted() -> None:
    text = str(FailedCasesError({f"case{i}": DataError(f"reason{i}.") for i in range(12)}))
    assert "12 case(s)" in text
    assert "reason4" in text
    assert "reason5" not in text
    assert text.endswith("and 7 more")


def test_failed_cases_keep_their_failures_through_a_pickle() -> None:
    error = FailedCasesError({"a": DataError("bad"), "b": KeyError("k")})
    back = pickle.loads(pickle.dumps(error))
    assert isinstance(back, FailedCasesError)
    assert str(back) == str(error)
    assert {case: type(why) for case, why in back.failures.items()} == {"a": DataError, "b": KeyError}


def test_changing_what_was_handed_in_does_not_change_the_error() -> None:
    failures: dict[str, BaseException] = {"a": DataError("bad")}
    error = FailedCasesError(failures)
    failures.clear()
    assert list(error.failures) == ["a"]
