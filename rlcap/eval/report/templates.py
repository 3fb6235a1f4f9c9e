"""The frame that all pages of this package share: style sheet, script and security policy.

A page is a single file without network access. The only script that a browser runs in it is `page.js`, whose hash stands in the
page's security policy.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib import resources
from typing import Any

from jinja2 import BaseLoader, ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from rlcap.eval.report.charts import swatch


def render_page(template: str, context: Mapping[str, Any], package: str | None = None) -> str:
    """Return a page as HTML.

    Args:
        template: Name of the page's template, which extends `base.html.jinja`.
        context: Variables of the template. Texts are escaped.
        package: The package in whose folder the template lies; None for the folder of this file.
    """
    files = resources.files("rlcap.eval") / "report"
    loaders: list[BaseLoader] = [PackageLoader("rlcap.eval", "report")]
    loaders += [PackageLoader(package, "")] if package else []
    environment = Environment(
        loader=ChoiceLoader(loaders),
        autoescape=True,  # captions are untrusted text
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script, style = (Markup((files / name).read_text(encoding="utf-8")) for name in ("page.js", "style.css"))
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode()
    environment.globals |= {"swatch": swatch, "script": script, "script_hash": digest, "style": style}
    return environment.get_template(template).render(context)
