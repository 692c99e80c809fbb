"""The audit as one self-contained HTML page: no script, no address outside the page, every text escaped."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np

from bench.data.audit.class_names import conflict_words
from bench.data.images.cache import resized
from bench.data.table import Table

_SHOWN = 60
_SIDE = 128

_TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Audit of {{ audit.dataset }}</title>
<style>
 body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #1c2430;
  background: #fff }
 h1, h2 { line-height: 1.2 } h2 { margin-top: 2.2rem } table { border-collapse: collapse; margin: .6rem 0 }
 th, td { text-align: right; padding: .25rem .7rem; border-bottom: 1px solid #dde2ea }
 th:first-child, td:first-child { text-align: left } .scroll { overflow-x: auto }
 .badge { border-radius: .3rem; padding: .1rem .5rem; color: #fff; background: #1a7f4b; white-space: nowrap }
 .badge.leaks { background: #b3261e }
 .pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(17.5rem, 1fr)); gap: 1rem }
 figure { margin: 0; border: 1px solid #dde2ea; border-radius: .4rem; padding: .5rem }
 figure.conflict { border-color: #b3261e }
 figure img { width: 48%; image-rendering: auto } figcaption { font-size: 12px; overflow-wrap: anywhere }
 .note { color: #56606e }
</style></head><body>
<h1>Audit of {{ audit.dataset }}</h1>
<p>{{ audit.images }} images{% if audit.expected %} of {{ audit.expected }}{% endif %} in {{ audit.groups }} groups
{%- if audit.synthetic %}, <strong>synthetic</strong>{% endif %}.</p>
{% for note in audit.notes %}<p class="note">{{ note }}</p>{% endfor %}
<h2>Splits</h2>
<div class="scroll"><table><tr><th>split</th><th>train</th><th>validation</th><th>test</th><th>groups in two parts</th>
<th>test images seen in fitting</th><th>verdict</th></tr>
{% for kind, part in audit.splits.items() %}<tr><td>{{ kind }}</td><td>{{ part.train }}</td><td>{{ part.val }}</td>
<td>{{ part.test }}</td><td>{{ part.groups_in_two_parts }}</td><td>{{ part.test_images_seen }}</td>
<td><span class="badge {{ 'leaks' if part.groups_in_two_parts }}">{{ part.verdict }}</span></td></tr>{% endfor %}
</table></div>
{% for kind, part in audit.splits.items() if part.leaks_without_the_audit %}
<p>Without joining what the audit found, the split “{{ kind }}” would tear {{ part.leaks_without_the_audit }} groups
apart.</p>{% endfor %}
<h2>Found</h2>
<table>{% for name, count in audit.counts.items() %}<tr><td>{{ name.replace("_", " ") }}</td><td>{{ count }}</td></tr>
{% endfor %}</table>
{% if audit.across %}<h2>Across datasets</h2>
<table><tr><th>other dataset</th><th>images also there</th><th>of them pixel for pixel</th>
<th>their labels</th></tr>
{% for other, found in audit.across.items() %}<tr><td>{{ other }}</td><td>{{ found.images }}</td>
<td>{{ found.exact_images }}</td><td>{{ found.words }}</td></tr>{% endfor %}</table>{% endif %}
<h2>Class balance</h2>
<div class="scroll"><table><tr><th></th>{% for name in classes %}<th>{{ name }}</th>{% endfor %}</tr>
<tr><td>all</td>{% for name in classes %}<td>{{ audit.balance.classes[name] }}</td>{% endfor %}</tr>
{% for site, counts in audit.balance.sites.items() %}<tr><td>site {{ site }}</td>
{% for name in classes %}<td>{{ counts[name] }}</td>{% endfor %}</tr>{% endfor %}
{% for kind, part in audit.splits.items() %}{% for name, counts in part.balance.items() %}
<tr><td>{{ kind }}, {{ name }}</td>{% for label in classes %}<td>{{ counts[label] }}</td>{% endfor %}</tr>
{% endfor %}{% endfor %}</table></div>
<h2>Pairs</h2>
{% if pairs %}<p>{{ pairs | length }} of {{ audit.pairs | length }} pairs; those with two labels first, then across
groups, then the least certain.</p><div class="pairs">
{% for pair in pairs %}<figure class="{{ 'conflict' if pair.left_label != pair.right_label }}">
<img src="{{ pair.left_picture }}" alt=""> <img src="{{ pair.right_picture }}" alt="">
<figcaption>{{ pair.left }} ({{ pair.left_label }})<br>{{ pair.right }} ({{ pair.right_label }})<br>
{{ pair.kind }}{{ ", turned or mirrored" if pair.orientation }}, agreement {{ pair.agreement }}
{{- ", one group" if pair.same_group }}</figcaption></figure>{% endfor %}</div>
{% else %}<p>No two images show the same picture.</p>{% endif %}
</body></html>
"""


def page(audit: dict[str, Any], table: Table) -> str:
    """The page's text; class names, ids and notes come from files and are escaped."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    row = {str(name): index for index, name in enumerate(table.ids)}
    shown = [
        {
            **pair,
            "left_picture": _picture(table, row[pair["left"]]),
            "right_picture": _picture(table, row[pair["right"]]),
        }
        for pair in sorted(audit["pairs"], key=_telling)[:_SHOWN]
    ]
    defaults: dict[str, Any] = {"splits": {}, "across": {}}
    for part in audit.get("splits", {}).values():
        part.setdefault("leaks_without_the_audit", 0)
    across = {other: {**found, "words": conflict_words(found)} for other, found in audit.get("across", {}).items()}
    return environment.from_string(_TEMPLATE).render(
        audit={**defaults, **audit, "across": across}, pairs=shown, classes=list(audit["balance"]["classes"])
    )


def _telling(pair: dict[str, Any]) -> tuple[bool, bool, float]:
    return pair["left_label"] == pair["right_label"], pair["same_group"], pair["agreement"]


def _picture(table: Table, row: int) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(resized(table.images.read(row), _SIDE))).save(buffer, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
