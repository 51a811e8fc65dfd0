"""The page's own files: closed to the outside, and under one policy."""

import base64
import hashlib
import re

import pytest

from segpipe.report.page import SCRIPT, STYLE, TEMPLATE, asset, policy


@pytest.mark.parametrize("name", [TEMPLATE, STYLE, SCRIPT])
def test_no_asset_names_another_place(name: str) -> None:
    text = asset(name)
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", text.replace("// ", ""))


def test_the_policy_allows_this_script_and_nothing_else() -> None:
    script = asset(SCRIPT)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy(script)
    assert policy(script).startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'; ")


def test_the_script_cannot_end_itself_early_and_makes_no_html() -> None:
    script = asset(SCRIPT)
    assert "</script" not in script
    assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|fetch\(", script)


def test_the_template_never_switches_escaping_off() -> None:
    assert not re.search(r"\|\s*safe|autoescape", asset(TEMPLATE))
