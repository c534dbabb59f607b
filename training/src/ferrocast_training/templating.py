"""The templates of this package, filled."""

import json
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def render(template: str, **values: Any) -> str:
    """Fill a template, which may use no name that is not given; HTML is escaped, Markdown is not."""
    environment = Environment(
        loader=PackageLoader("ferrocast_training"),
        undefined=StrictUndefined,
        autoescape=template.endswith(".html.j2"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["toml"] = _toml
    return environment.get_template(template).render(**values)


def _toml(value: Any) -> str:
    """Return a text, number or list of texts as TOML, which writes them as JSON does."""
    return json.dumps(value, ensure_ascii=False)
