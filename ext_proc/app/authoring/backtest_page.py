"""A back-test as one page of HTML that needs nothing else: no script, no picture, no address but the console's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined

from ext_proc.policy.differing import EFFECTS

if TYPE_CHECKING:
    from ext_proc.app.authoring.backtest import Report

_WORDS: Final = {
    "newly_denied": "Newly denied",
    "newly_allowed": "Newly allowed",
    "newly_held": "Newly held for people to agree",
    "no_longer_held": "No longer held",
    "newly_unmasked": "Newly unmasked",
    "newly_masked": "Newly masked",
    "no_decision": "No decision at all: the call would get 503",
    "otherwise": "Otherwise different",
}
_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Back-test of a policy</title>
<style>
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; width: 100%; }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #ccc; vertical-align: top; }
td.number, th.number { text-align: right; }
code { font-size: .9em; overflow-wrap: anywhere; }
</style>
</head>
<body>
<h1>Back-test of a policy</h1>
<p>Candidate <code>{{ report.candidate.revision }}</code> (SHA-256 <code>{{ report.candidate.digest }}</code>)
against what was recorded{% if since %} from {{ since }}{% endif %}{% if until %} to {{ until }}{% endif %}.</p>
<p><strong>{{ report.decisions }}</strong> decisions, <strong>{{ report.changed_count }}</strong> would differ.
{%- for state, count in report.unread.items() | sort %}
{{ count }} could not be asked again ({{ state }}).{% endfor %}</p>
<table>
<thead><tr><th scope="col">What would change</th><th scope="col" class="number">Calls</th></tr></thead>
<tbody>
{%- for name in effects %}
<tr><td><a href="#{{ name }}">{{ words[name] }}</a></td><td class="number">{{ report.counts[name] }}</td></tr>
{%- endfor %}
</tbody>
</table>
{%- for name in effects if report.counts[name] %}
<h2 id="{{ name }}">{{ words[name] }}: {{ report.counts[name] }}</h2>
<table>
<thead><tr><th scope="col">Connection</th><th scope="col">Model</th>
<th scope="col" class="number">Calls</th></tr></thead>
<tbody>
{%- for row in report.by_model.items() | sort(attribute="1", reverse=true) if row[0][0] == name %}
<tr><td>{{ row[0][1] }}</td><td>{{ row[0][2] }}</td><td class="number">{{ row[1] }}</td></tr>
{%- endfor %}
</tbody>
</table>
<table>
<thead><tr><th scope="col">Example</th><th scope="col">When</th><th scope="col">Model</th>
<th scope="col">Reasons before</th>
<th scope="col">Reasons now</th><th scope="col">Fields</th></tr></thead>
<tbody>
{%- for one in report.examples(name) %}
<tr><td>{% if console %}<a href="{{ console }}/exchanges/{{ quote(one.exchange_id, safe='') }}">{% endif -%}
<code>{{ one.exchange_id }}</code>{% if console %}</a>{% endif %}</td>
<td>{{ one.at }}</td><td>{{ one.model }}</td><td>{{ one.reasons_before | join(", ") }}</td>
<td>{{ one.reasons_now | join(", ") }}</td><td>{{ one.fields | join(", ") }}</td></tr>
{%- endfor %}
</tbody>
</table>
{%- endfor %}
</body>
</html>
"""


def page(report: Report, since: str | None, until: str | None, console_url: str | None) -> str:
    """The page. Where there is a console, each example leads to its exchange there."""
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(_PAGE)
    return template.render(
        report=report, since=since, until=until, console=console_url, effects=EFFECTS, words=_WORDS, quote=quote
    )
