"""One HTML file that needs nothing else: style, script and data are inside, and no request leaves it."""

import base64
import hashlib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

TEMPLATE, STYLE, SCRIPT = "report.html.j2", "report.css", "report.js"


def page(chapters: Mapping[str, Any], template: str = TEMPLATE, *, printed: bool = False) -> str:
    """Return the page. Whatever is no ``Markup`` is escaped; a name the template asks for must be there.

    Args:
        chapters: What stands in it.
        template: The asset it is set with.
        printed: Whether it is for paper: everything unfolded, nothing that moves.
    """
    environment = Environment(
        loader=DictLoader({template: asset(template)}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = asset(SCRIPT)
    return environment.get_template(template).render(
        chapters,
        style=Markup(asset(STYLE)),
        script=Markup(script),
        policy=policy(script),
        printed=printed,
    )


def policy(script: str) -> str:
    """Return the content security policy: this very script may run, and nothing may be fetched."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )


def asset(name: str) -> str:
    """Return a file that lies beside this one."""
    return (files("segpipe.report") / "assets" / name).read_text(encoding="utf-8")
