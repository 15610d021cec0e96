"""The coverage of a source as one self-contained page: a bar for every atom, no scripts, light, dark, paper."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator
from typing import Final

from fhir_screen.report.coverage import AtomCoverage, CriterionCoverage, TrialCoverage
from fhir_screen.report.wording import counted

_STYLE: Final = """
:root{color-scheme:light dark;--ink:#1b1f24;--paper:#fff;--quiet:#59636e;--line:#d1d9e0;--soft:#eef1f4;
--usable:#1a7f52;--fresh:#c98a00;--old:#9aa4ae;--stop:#a3261f}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--paper:#0d1117;--quiet:#9198a1;--line:#3d444d;--soft:#1c232c;
--usable:#3fb87f;--fresh:#d4a72c;--old:#6b7680;--stop:#ff8f87}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:70rem;padding:1.5rem;font:1rem/1.5 system-ui,"Noto Sans KR",sans-serif;color:var(--ink);
background:var(--paper);overflow-wrap:anywhere}
h1{font-size:1.5rem;margin:0}h2{font-size:1.15rem;margin:2rem 0 .5rem}p{margin:.25rem 0}
.quiet{color:var(--quiet);font-size:.9rem}
section{border-top:1px solid var(--line);padding:.6rem 0;break-inside:avoid}
h3{font-size:1rem;margin:0;display:flex;flex-wrap:wrap;gap:0 .75rem;justify-content:space-between}
h3 .out{color:var(--stop);font-weight:600}h3 .none{color:var(--quiet);font-weight:400}
ul{list-style:none;margin:.35rem 0 0;padding:0}
li{display:grid;grid-template-columns:minmax(0,1fr) minmax(0,1fr) 9.5rem;gap:0 1rem;align-items:center;padding:.15rem 0}
li svg{display:block;width:100%;height:.85rem}
li .count{font-variant-numeric:tabular-nums;font-size:.85rem;color:var(--quiet);text-align:right}
.all{fill:var(--soft)}.old{fill:var(--old)}.fresh{fill:var(--fresh)}.usable{fill:var(--usable)}
.key svg{width:.85rem;height:.85rem;vertical-align:-.1rem;margin:0 .3rem 0 1rem}.key svg:first-child{margin-left:0}
@media(max-width:40rem){body{padding:1rem}li{grid-template-columns:1fr;gap:.1rem;padding:.35rem 0}
li .count{text-align:left}}
@media print{body{max-width:none;padding:0;font-size:9.5pt;-webkit-print-color-adjust:exact;print-color-adjust:exact}}
"""


def render(found: Iterable[TrialCoverage], as_of: str) -> Iterator[str]:
    """Trial by trial, criterion by criterion; the page holds numbers alone, and no patient."""
    yield (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>Coverage</title><style>{_STYLE}</style></head><body>\n"
        f"<h1>Coverage{' as of ' + _e(as_of) if as_of else ''}</h1>\n"
        '<p class="quiet">For how many patients the record holds what each criterion asks. Counts of patients, '
        "and nothing of any one of them.</p>\n"
        f'<p class="quiet key">{_swatch("usable")}it decided{_swatch("fresh")}in date, but it did not decide'
        f"{_swatch('old')}on record, and settles nothing{_swatch('all')}no data</p>\n"
    )
    for trial in found:
        yield f"<h2>{_e(trial.trial)} · {_e(trial.title)}</h2>\n<p>{_population(trial)}</p>\n"
        yield from (_criterion(criterion, trial) for criterion in trial.criteria if trial.patients)
    yield "</body></html>\n"


def _population(trial: TrialCoverage) -> str:
    dead = f", {trial.deceased} of them deceased" if trial.deceased else ""
    return f"{counted(trial.patients, 'patient')} who have, or may have, the disease{dead}"


def _criterion(criterion: CriterionCoverage, trial: TrialCoverage) -> str:
    out = f"keeps out {criterion.blocks}, it alone {criterion.alone}" if criterion.blocks else "keeps nobody out"
    shown = f'<span class="{"out" if criterion.blocks else "none"}">{out}</span>'
    return (
        f'<section><h3><span>{_e(criterion.id)}</span>{shown}</h3><p class="quiet">{_e(criterion.text)}</p>'
        f"<ul>{''.join(_atom(atom, trial.patients) for atom in criterion.atoms)}</ul></section>\n"
    )


def _atom(atom: AtomCoverage, whole: int) -> str:
    if atom.manual:
        return f'<li><span>{_e(atom.id)} {_e(atom.text)}</span><span class="quiet">a person answers</span></li>'
    return (
        f"<li><span>{_e(atom.id)} {_e(atom.text)}</span>{_bar(atom, whole)}"
        f'<span class="count">{atom.any_data} of {whole}, {atom.usable} usable</span></li>'
    )


def _bar(atom: AtomCoverage, whole: int) -> str:
    told = f"data for {atom.any_data} of {whole} patients, fresh for {atom.fresh}, usable for {atom.usable}"
    bars = "".join(
        f'<rect class="{name}" width="{100 * count / whole:.4g}" height="10"/>'
        for name, count in (("all", whole), ("old", atom.any_data), ("fresh", atom.fresh), ("usable", atom.usable))
        if count
    )
    return (
        f'<svg viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label="{_e(told)}">'
        f"<title>{_e(told)}</title>{bars}</svg>"
    )


def _swatch(name: str) -> str:
    return f'<svg viewBox="0 0 10 10" aria-hidden="true"><rect class="{name}" width="10" height="10"/></svg>'


def _e(text: str) -> str:
    return html.escape(text, quote=True)
