"""Charts as inline SVG, and the page around them: one file without outside resources, light and dark.

Colours are set by the page (CSS classes s0, s1, …), so that one drawing serves both themes. Every mark has a title
that a pointer shows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 260, 58, 16, 12, 40
BAR, GAP, NAME = 22, 12, 150
COLOURS = 6

STYLE = """
:root { color-scheme: light dark; --ground: #fcfcfb; --ink: #1b1b19; --soft: #6a6963; --rule: #e4e3de;
  --s0: #2a78d6; --s1: #eb6834; --s2: #1baf7a; --s3: #9a5fd0; --s4: #c99400; --s5: #8a8983; --bad: #d03b3b }
@media (prefers-color-scheme: dark) { :root { --ground: #191918; --ink: #f1f0ec; --soft: #a3a29b; --rule: #34342f;
  --s0: #4f94ea; --s1: #ee7d4e; --s2: #22bd85; --s3: #b182e2; --s4: #d9a81c; --s5: #94938c; --bad: #ee6a6a } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 1400px; padding: 24px; background: var(--ground); color: var(--ink);
  font: 15px/1.45 system-ui, sans-serif }
h1 { font-size: 22px; margin: 0 0 4px } h2 { font-size: 15px; margin: 0 0 4px; font-weight: 600 }
p { margin: 4px 0; color: var(--soft) } p.said { color: var(--ink); font-size: 17px }
main { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr)); gap: 32px;
  margin-top: 24px }
section { min-width: 0 } .wide { grid-column: 1 / -1; overflow-x: auto }
svg { width: 100%; height: auto; display: block; font: 12px system-ui, sans-serif }
svg text { fill: var(--soft) } svg .ink { fill: var(--ink) } .grid { stroke: var(--rule) }
.limit { stroke: var(--bad); stroke-dasharray: 4 4 }
svg .limit-name { fill: var(--bad); paint-order: stroke; stroke: var(--ground); stroke-width: 4px }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap }
td, th { padding: 4px 14px 4px 0; text-align: right; border-bottom: 1px solid var(--rule); font-weight: 400 }
th { color: var(--soft); font-size: 13px } td:first-child, th:first-child { text-align: left }
.text td, .text th { text-align: left; white-space: normal; overflow-wrap: anywhere }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 4px 0; font-size: 13px; color: var(--soft) }
.legend i { display: inline-block; width: 10px; height: 10px; border-radius: 2px; margin-right: 6px }
"""
STYLE += "".join(
    f".l{n} {{ stroke: var(--s{n}); fill: none; stroke-width: 2 }} .s{n} {{ fill: var(--s{n}) }} "
    f".legend .k{n} {{ background: var(--s{n}) }}\n"
    for n in range(COLOURS)
)

Points = Sequence[tuple[float, float]]


def lines(
    title: str, series: Mapping[str, Points], x_name: str, y_name: str, *, log_y: bool = False, dots: bool = False,
    limit: tuple[str, float] | None = None, x_text: Callable[[float], str] = lambda x: f"{x:,g}",
    x_marks: Sequence[float] = (),
) -> str:  # fmt: skip
    """Lines over a common x. `limit` is a named height; `x_marks` stand where they are told instead of evenly."""
    points = [point for each in series.values() for point in each]
    if not points:
        return ""
    low_x, high_x = min(x for x, _ in points), max(x for x, _ in points)
    heights = [y for _, y in points] + ([limit[1]] if limit else [])
    marks = log_ticks(min(y for y in heights if y > 0), max(heights)) if log_y else ticks(max(heights))
    low_y, high_y = marks[0], marks[-1]

    def at_x(x: float) -> float:
        return LEFT + (x - low_x) / ((high_x - low_x) or 1) * (WIDTH - LEFT - RIGHT)

    def at_y(y: float) -> float:
        share = (math.log(max(y, low_y) / low_y) / math.log(high_y / low_y)) if log_y else y / high_y
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    drawn = []
    for mark in marks:
        y = at_y(mark)
        drawn.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
                     f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{mark:,g}</text>')  # fmt: skip
    for mark in x_marks or [x for x in ticks(high_x) if x >= low_x]:
        drawn.append(f'<text x="{at_x(mark):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">'
                     f"{escape(x_text(mark))}</text>")  # fmt: skip
    drawn.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" text-anchor="end">{escape(x_name)}</text>')
    if limit:
        y = at_y(limit[1])
        drawn.append(f'<line class="limit" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
    for number, (name, each) in enumerate(series.items()):
        colour = number % COLOURS
        if not (dots and len(each) == 1):
            path = " ".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in each)
            drawn.append(f'<polyline class="l{colour}" points="{path}"/>')
        if dots:
            drawn += [
                f'<circle class="s{colour}" cx="{at_x(x):.1f}" cy="{at_y(y):.1f}" r="4">'
                f"<title>{escape(name)}: {escape(x_text(x))}, {_figure(y)}</title></circle>"
                for x, y in each
            ]
    if limit:  # over the lines, and at the left, where what grows is still low
        y = at_y(limit[1]) - 5
        drawn.append(f'<text class="limit-name" x="{LEFT + 4}" y="{y:.1f}">{escape(limit[0])}</text>')
    picture = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(drawn)}</svg>'
    return _section(title, y_name, list(series), picture)


def bars(title: str, rows: Mapping[str, Mapping[str, float]], unit: str, *, limit: float | None = None) -> str:
    """Horizontal bars, each of named parts side by side, with its total at its end."""
    parts = list(dict.fromkeys(part for row in rows.values() for part, value in row.items() if value))
    longest = max([sum(row.values()) for row in rows.values()] + ([limit] if limit else [])) or 1
    scale = (WIDTH - NAME - 70) / longest
    height = len(rows) * (BAR + GAP)
    drawn = []
    for number, (name, row) in enumerate(rows.items()):
        y, x = number * (BAR + GAP), float(NAME)
        drawn.append(f'<text class="ink" x="{NAME - 10}" y="{y + 15}" text-anchor="end">{escape(name)}</text>')
        for part, value in row.items():
            if not value:
                continue
            width = value * scale
            said = escape(f"{name}, {part}: {_figure(value)} {unit}")
            drawn.append(f'<rect class="s{parts.index(part) % COLOURS}" x="{x:.1f}" y="{y}" rx="2"'
                         f' width="{max(1, width - 2):.1f}" height="{BAR}">'
                         f"<title>{said}</title></rect>")  # fmt: skip
            x += width
        drawn.append(f'<text class="ink" x="{x + 6:.1f}" y="{y + 15}">{_figure(sum(row.values()))}</text>')
    if limit:
        x = NAME + limit * scale
        drawn.append(f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height}"/>')
    picture = f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">{"".join(drawn)}</svg>'
    return _section(title, unit, parts, picture)


def table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], *, text: bool = False) -> str:
    """`text`: of words rather than of figures."""
    head = "".join(f"<th>{escape(each)}</th>" for each in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    kind = ' class="text"' if text else ""
    return f'<section class="wide"><h2>{escape(title)}</h2><table{kind}><tr>{head}</tr>{body}</table></section>'


def page(title: str, said: Sequence[str], parts: Sequence[str]) -> str:
    """`said`: what a reader should take away, the first line largest."""
    lead = "".join(f"<p{'' if at else ' class=said'}>{escape(line)}</p>" for at, line in enumerate(said))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><h1>{escape(title)}</h1>{lead}<main>{''.join(parts)}</main></body></html>\n"
    )


def _figure(value: float) -> str:
    """Four digits, or a whole number with all that it has."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def ticks(high: float) -> list[float]:
    """From 0 to at least `high`, four to six of them, at 1, 2 or 5 times a power of ten."""
    if high <= 0:
        return [0, 1]
    raw = high / 5
    power = 10 ** math.floor(math.log10(raw))
    each = next(power * step for step in (1, 2, 5, 10) if power * step >= raw)
    return [round(each * n, 12) for n in range(math.ceil(high / each - 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten, from below `low` to above `high`."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return [10.0**power for power in range(first, max(last, first + 1) + 1)]


def _section(title: str, unit: str, names: Sequence[str], picture: str) -> str:
    legend = "".join(f'<span><i class="k{n % COLOURS}"></i>{escape(name)}</span>' for n, name in enumerate(names))
    return (
        f'<section><h2>{escape(title)}, {escape(unit)}</h2><div class="legend">{legend}</div>{picture}</section>'
    )
