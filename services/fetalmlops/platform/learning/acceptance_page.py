"""The page of an acceptance test: one HTML file that stands alone, to print and to sign."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jinja2 import Environment

if TYPE_CHECKING:
    from fetalmlops.domain.learning.acceptance import Check, Outcome, SampleSize
    from fetalmlops.domain.learning.intended_use import IntendedUse
    from fetalmlops.domain.learning.provenance import Seen
    from fetalmlops.domain.learning.summary import Summary
    from fetalmlops.domain.models.bundle import Bundle
    from fetalmlops.platform.learning.evaluation import ImageSource

__all__ = ["acceptance_page"]

_TEMPLATE: Final = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Acceptance test: {{ outcome }}</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a }
table { border-collapse: collapse; width: 100%; margin: .6rem 0 1.4rem }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #ccc }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.passed { color: #116329 } .failed { color: #b00020; font-weight: 600 } .not { color: #7a5200 }
.sign td { height: 3rem; width: 33% }
code { font-size: 12px; word-break: break-all }
</style>
<h1>Acceptance test: <span class="{{ outcome.split()[0] }}">{{ outcome }}</span></h1>
<p>{{ use.title }}.</p>
<table>
<tr><th>Bundle<td>{{ manifest.name }} {{ manifest.version }}, {{ manifest.release_status }}<br>
<code>{{ digest }}</code>
<tr><th>Data<td>{{ data.manifest.name }}: {{ summary.images }} labelled images of {{ summary.patients }} patients<br>
<code>{{ data.digest }}</code>
<tr><th>Independence<td{% if not seen.complete %} class="not"{% endif %}>{{ seen }}
<tr><th>Intended use<td>version {{ use.version }}, {{ use.status }}<br><code>{{ use_digest }}</code>
<tr><th>Not available<td>{{ manifest.lacking | join(", ") or "nothing" }}
</table>
{% if use.status != "confirmed" %}<p class="not">Its floors are proposals: the site has not confirmed them.</p>{% endif %}
<h2>Patients needed</h2>
<table><tr><th>for<th>needed<th>found<th></tr>
{% for size in sizes %}<tr><td>{{ size.what }}<td class="number">{{ size.needed }}<td class="number">{{ size.found }}
<td class="{{ "passed" if size.enough else "not" }}">{{ "enough" if size.enough else "too few" }}</tr>
{% endfor %}</table>
<h2>Demands</h2>
<p>Intervals are of {{ "%g" % (100 * level) }} % and clustered by patient. A floor must lie below the interval,
a limit above it.</p>
<table><tr><th>figure<th>wanted<th>found<th>interval<th>patients<th>outcome</tr>
{% for check in checks %}<tr><td>{{ check.name }}<td>{{ check.wanted }}
<td class="number">{{ number(check.estimate and check.estimate.value) }}
<td class="number">{{ interval(check.estimate) }}
<td class="number">{{ check.estimate.patients if check.estimate else "" }}
<td class="{{ check.outcome.split()[0] }}">{{ check.outcome }}{% if check.why %}: {{ check.why }}{% endif %}</tr>
{% endfor %}</table>
<h2>By scanner</h2>
<table><tr><th>scanner<th>figure<th>found<th>interval<th>images<th>patients</tr>
{% for scanner, figures in summary.groups["scanner"].items() %}{% for name, each in figures.items() %}
<tr><td>{{ scanner if loop.first else "" }}<td>{{ name.replace("_", " ") }}<td class="number">{{ number(each.value) }}
<td class="number">{{ interval(each) }}<td class="number">{{ each.images }}<td class="number">{{ each.patients }}</tr>
{% endfor %}{% else %}<tr><td colspan="6">No scanner is known in this data set.</tr>{% endfor %}</table>
<h2>Signatures</h2>
<table class="sign"><tr><th>name and role<th>decision<th>date and signature</tr>
<tr><td><td><td></tr><tr><td><td><td></tr></table>
</html>
"""


def acceptance_page(
    bundle: Bundle,
    data: ImageSource,
    seen: Seen,
    use: IntendedUse,
    use_digest: str,
    summary: Summary,
    sizes: list[SampleSize],
    checks: list[Check],
    outcome: Outcome,
) -> str:
    """Return the page, HTML."""
    template = Environment(autoescape=True).from_string(_TEMPLATE)
    return template.render(
        manifest=bundle.manifest,
        digest=bundle.digest,
        data=data,
        seen=seen,
        use=use,
        use_digest=use_digest,
        summary=summary,
        sizes=sizes,
        checks=checks,
        outcome=outcome.value,
        level=use.accuracy.interval,
        number=lambda value: "not available" if value is None else f"{value:.3f}",
        interval=lambda each: "" if each is None or each.low is None else f"{each.low:.3f} to {each.high:.3f}",
    )
