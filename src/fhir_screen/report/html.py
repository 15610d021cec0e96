"""Decisions as one self-contained page: no scripts, nothing loaded, light and dark, and fit for paper."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from itertools import groupby
from typing import Final

from fhir_screen.core.decision import AtomResult, CriterionResult, Decision, Effect, Verdict
from fhir_screen.report import explain, wording
from fhir_screen.report.catalogue import Catalogue
from fhir_screen.report.english import ENGLISH
from fhir_screen.report.funnel import Step, funnel

_STYLE: Final = """
:root{color-scheme:light dark;--ink:#1b1f24;--paper:#fff;--quiet:#59636e;--line:#d1d9e0;--soft:#f6f8fa;
--good:#116329;--ask:#7d4e00;--stop:#8c1d18}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--paper:#0d1117;--quiet:#9198a1;--line:#3d444d;--soft:#151b23;
--good:#4ac26b;--ask:#d4a72c;--stop:#ff8f87}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:70rem;padding:1.5rem;font:1rem/1.5 system-ui,"Noto Sans KR",sans-serif;color:var(--ink);
background:var(--paper);overflow-wrap:anywhere}
h1{font-size:1.5rem;margin:0}h2{font-size:1.15rem;margin:2rem 0 .5rem}h3{font-size:1rem;margin:1rem 0 .25rem}p{margin:.25rem 0}
.quiet{color:var(--quiet);font-size:.9rem}
.sums{display:flex;flex-wrap:wrap;gap:.5rem 1.5rem;margin:1rem 0;padding:.75rem 1rem;background:var(--soft);
border-radius:.5rem}
details{border-top:1px solid var(--line);padding:.6rem 0}summary{cursor:pointer}
summary b{margin-right:.5rem}
.verdict{font-weight:600}summary .verdict{white-space:nowrap}
.likely-eligible,.supports{color:var(--good)}.needs-review,.undetermined{color:var(--ask)}.not-eligible,.blocks{color:var(--stop)}
article{break-inside:avoid;margin:.75rem 0 .75rem .25rem;padding-left:.75rem;border-left:3px solid var(--line)}
article.blocks{border-color:var(--stop)}article.undetermined{border-color:var(--ask)}article.supports{border-color:var(--good)}
article.blocks>*,article.undetermined>*,article.supports>*{color:var(--ink)}
blockquote{margin:.25rem 0;color:var(--quiet)}ul{margin:.25rem 0;padding-left:1.25rem}
.source{color:var(--quiet);font-size:.85rem}
summary .why{display:block;white-space:pre-line;font-size:.95rem}
.first li{padding:.15rem 0}.funnel{list-style:none;padding:0}
.funnel li{display:grid;grid-template-columns:minmax(0,3fr) minmax(0,2fr) minmax(0,2fr);gap:0 1rem;align-items:center;
padding:.25rem 0;border-top:1px solid var(--line);break-inside:avoid}
.funnel svg{display:block;width:100%;height:.85rem}.all{fill:var(--line)}.out{fill:var(--stop)}.ask{fill:var(--ask)}
@media(max-width:40rem){body{padding:1rem}.funnel li{grid-template-columns:1fr;gap:.1rem}}
@media print{body{max-width:none;padding:0;font-size:10pt;-webkit-print-color-adjust:exact;print-color-adjust:exact}
h2,h3,h3+p{break-after:avoid}details{break-inside:avoid-page}summary{list-style:none}
.sums{background:none;border:1px solid var(--line)}}
"""

_ORDER: Final = {Verdict.LIKELY_ELIGIBLE: 0, Verdict.NEEDS_REVIEW: 1, Verdict.NOT_ELIGIBLE: 2}


def render(decisions: Iterable[Decision], words: Catalogue = ENGLISH) -> Iterator[str]:
    """A screening: what needs a person first, then the whole list with its reasons, then the funnel of each trial."""
    rows = sorted(decisions, key=lambda d: (d.trial.id, _ORDER[d.verdict], d.patient))
    yield _head(words.screening, rows, words)
    trials = [tuple(of_trial) for _, of_trial in groupby(rows, key=lambda d: d.trial.id)]
    if not rows:
        yield f"<p>{_e(words.nobody)}</p>\n"
    else:
        for heading, part in (
            (words.first_heading, _waiting), (words.list_heading, _listed), (words.funnel_heading, _funnel),
        ):  # fmt: skip
            yield f"<h2>{_e(heading)}</h2>\n"
            for of_trial in trials:
                yield f"<h3>{_e(of_trial[0].trial.id)} · {_e(of_trial[0].trial.title)}</h3>\n"
                yield from part(of_trial, words)
    yield _FOOT


def _waiting(rows: Sequence[Decision], words: Catalogue) -> Iterator[str]:
    """Whom somebody has to look at, the most promising first, and what to do about each."""
    waiting = [decision for decision in rows if decision.verdict is not Verdict.NOT_ELIGIBLE]
    lines = (
        f'<li><b>{_e(one.patient)}</b> <span class="verdict {one.verdict}">{words.verdict[one.verdict]}</span> '
        f"<span>{_e(wording.next_step(one, words))}</span></li>"
        for one in waiting
    )
    yield f'<ol class="first">{"".join(lines)}</ol>\n' if waiting else f"<p>{_e(words.nobody_waits)}</p>\n"


def _listed(rows: Sequence[Decision], words: Catalogue) -> Iterator[str]:
    yield _sums(rows, words)
    yield from (_folded(decision, words) for decision in rows)


def _funnel(rows: Sequence[Decision], words: Catalogue) -> Iterator[str]:
    found = funnel(rows)
    blocked = f"; {words.blocked_anyway.format(count=found.blocked)}" if found.blocked else ""
    yield f"<p>{_e(words.candidates.format(count=found.candidates) + blocked)}</p>\n"
    yield f'<ul class="funnel">{"".join(_step(step, found.candidates, words) for step in found.steps)}</ul>\n'


def _step(step: Step, whole: int, words: Catalogue) -> str:
    told = words.step.format(out=step.out, alone=step.alone, open=step.open, remain=step.remain)
    label = words.label(step.criterion)
    text = wording.shortened(step.criterion.text, 120) + (f" ({label})" if label else "")
    bars = (("all", 0, whole), ("out", 0, step.out), ("ask", step.out, step.open))
    drawn = "".join(
        f'<rect class="{name}" x="{100 * start / whole:.4g}" width="{100 * count / whole:.4g}" height="10"/>'
        for name, start, count in bars
    )
    return (
        f"<li><span><b>{_e(step.criterion.id)}</b> {_e(text)}</span>"
        f'<svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">{drawn}</svg>'
        f'<span class="quiet">{_e(told)}</span></li>'
    )


def render_note(
    noted: Iterable[tuple[Decision, Mapping[str, date]]], criterion: str | None = None, words: Catalogue = ENGLISH
) -> Iterator[str]:
    """One patient in full, trial by trial, with the known days that each decision rests on; or one criterion."""
    rows = list(noted)
    yield _head(words.explanation, [decision for decision, _ in rows], words)
    for decision, anchors in rows:
        yield f"<h2>{_e(decision.patient)} · {_e(decision.trial.id)} · {_e(decision.trial.title)}</h2>\n"
        yield f'<p class="verdict {decision.verdict}">{_e(explain.verdict(decision, words))}</p>\n'
        if anchors:
            yield f'<p class="quiet">{_e(explain.known_days(anchors, words))}</p>\n'
        if decision.death is not None:
            yield f'<p class="source">{_e(explain.source(decision.death, words))}</p>\n'
        yield from (_criterion(one, words) for one in explain.chosen(decision, criterion))
    yield _FOOT


def _head(title: str, rows: Sequence[Decision], words: Catalogue) -> str:
    days = sorted({decision.as_of.isoformat() for decision in rows})
    return (
        '<!doctype html>\n<html lang="' + words.lang + '"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; style-src \'unsafe-inline\'">'
        f"<title>{_e(title)}</title><style>{_STYLE}</style></head><body>\n"
        f"<h1>{_e(words.on_day.format(title=title, days=', '.join(days)) if days else title)}</h1>\n"
        f'<p class="quiet">{_e(words.made_by)}</p>\n'
    )


_FOOT: Final = "</body></html>\n"


def _sums(rows: Sequence[Decision], words: Catalogue) -> str:
    counted = Counter(decision.verdict for decision in rows)
    cells = "".join(
        f'<span><b class="{verdict}">{counted[verdict]}</b> {words.verdict[verdict]}</span>' for verdict in Verdict
    )
    return f'<div class="sums">{cells}</div>\n'


def _folded(decision: Decision, words: Catalogue) -> str:
    shown = [c for c in wording.ordered(decision) if c.effect is not Effect.SUPPORTS]
    return (
        f"<details><summary><b>{_e(decision.patient)}</b>"
        f'<span class="verdict {decision.verdict}">{words.verdict[decision.verdict]}</span> '
        f'<span class="quiet">{_e(wording.next_step(decision, words))}</span>'
        f'<span class="why">{_e(wording.why(decision, words))}</span></summary>\n'
        f"<p>{_e(explain.verdict(decision, words))}</p>\n{''.join(_criterion(one, words) for one in shown)}</details>\n"
    )


def _criterion(criterion: CriterionResult, words: Catalogue) -> str:
    label = words.label(criterion)
    return (
        f'<article class="{criterion.effect}"><p><b>{_e(criterion.id)}</b> ({words.kind[criterion.role]}, '
        f"{words.role[criterion.role]}): {_e(explain.conclusion(criterion, words))}</p>"
        f"<blockquote>“{_e(criterion.text)}”{'<br>' + _e(label) if label else ''}</blockquote>"
        f"<ul>{''.join(_atom(criterion, atom, words) for atom in explain.in_order(criterion))}</ul></article>\n"
    )


def _atom(criterion: CriterionResult, atom: AtomResult, words: Catalogue) -> str:
    because = "" if atom.asked else atom.answer.because
    sources = [f'<span class="source">{_e(explain.source(one, words))}</span>' for one in atom.answer.evidence]
    hints = [_e(words.hint.format(text=hint)) for hint in atom.hints]
    flags = "; ".join(wording.flags(atom, words))
    noted = [f'<span class="quiet">{_e(words.noted.format(flags=flags))}</span>'] if flags else []
    settling = explain.settled(criterion, atom, words)
    further = [*sources, *hints, *noted, *([f"→ {_e(settling)}"] if settling else [])]
    name = explain.named(criterion, atom, words).removeprefix(atom.id)
    said = f"<b>{_e(atom.id)}</b>{_e(name)} – <b>{words.answer[atom.answer.truth]}</b>{': ' + _e(because) if because else ''}"
    return f"<li>{'<br>'.join((said, *further))}</li>"


def _e(text: str) -> str:
    return html.escape(text, quote=True)
