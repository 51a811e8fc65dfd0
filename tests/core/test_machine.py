"""Switches for libraries that read them once, when they are loaded."""

import os

import pytest

from segpipe.core.machine import SWITCHES, set_switches


def test_each_switch_is_set_where_the_user_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    first, *others = SWITCHES
    monkeypatch.setenv(first, "mine")
    for name in others:
        monkeypatch.delenv(name, raising=False)
    assert others
    set_switches()
    assert os.environ[first] == "mine"
    assert {name: os.environ[name] for name in others} == {name: SWITCHES[name] for name in others}
