"""docs/performance.svg: CPU per request, a panel for each work, drawn from the figures.

Bars are drawn to the scale of their panel, from zero; the reference is a line through
them. A bar that would leave the panel is cut, visibly, and its number tells. Colours are
of a middle tone, so that the picture can stand on white and on black.
"""

from __future__ import annotations

from xml.sax.saxutils import escape

from perf.compare import figures as kept
from perf.compare import page
from perf.compare.servers import ROOT

PICTURE = ROOT / "docs" / "performance.svg"

#: Panels: work and what it is called here.
PANELS = (
    ("small", "keep-alive, small request"),
    ("varied", "keep-alive, browser's request, never the same twice"),
    ("post", "POST of 1 KB"),
    ("close", "a connection for each request"),
    ("stream", "stream of 20 chunks, each sent at once"),
    ("large", "answer of 1 MB"),
)
COLUMNS = 2
#: Peers shown in each panel: the cheapest, and these.
CHEAPEST = 4
ALWAYS = ("gunicorn",)
#: A bar longer than so many times the reference is cut.
CUT = 3.2

WIDTH, NAMES, NUMBERS, BAR, GAP = 420, 112, 52, 15, 6
HEAD, FOOT, MARGIN = 46, 20, 12
TEXT, FAINT, OURS, PURE, PEER, LINE = "#768390", "#8b949e", "#1f8a70", "#6fb3a2", "#98a2ae", "#d9822b"


def _bars(work: kept.Work) -> list[tuple[str, kept.Server, str]]:
    """Label, figures and colour of each bar, the cheapest first."""
    ranked = page.peers(work)
    shown = ranked[:CHEAPEST] + [pair for pair in ranked[CHEAPEST:] if pair[0] in ALWAYS]
    bars = [(label, server, PEER) for label, server in shown]
    for label, colour in (("cyhorn", OURS), ("cyhorn-pure", PURE)):
        server = work["servers"].get(label, {})
        if "total_us" in server:
            bars.append((label, server, colour))
    return sorted(bars, key=lambda bar: bar[1]["total_us"])


def _text(
    x: float, y: float, words: str, *, anchor: str = "start", colour: str = TEXT, more: str = ""
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"{more}>{escape(words)}</text>'
    )


def _panel(title: str, work: kept.Work, x: float, y: float) -> tuple[list[str], float]:
    """The marks of one panel whose upper left corner is at x, y, and its height."""
    bars = _bars(work)
    limit = work["servers"].get("reference", {}).get("total_us")
    room = WIDTH - NAMES - NUMBERS
    longest = max(server["total_us"] for _, server, _ in bars)
    end = min(longest, CUT * limit) if limit else longest
    left = x + NAMES
    marks = [_text(x, y + 14, title, more=' font-weight="600"')]
    top = y + 26
    for number, (label, server, colour) in enumerate(bars):
        value = server["total_us"]
        bar_y = top + number * (BAR + GAP)
        length = room * min(value, end) / end
        ours = label.startswith("cyhorn")
        name = label + (" (no Date)" if "no Date" in server.get("notes", ()) else "")
        weight = ' font-weight="600"' if ours else ""
        marks.append(_text(left - 6, bar_y + BAR - 4, name, anchor="end", more=weight))
        marks.append(
            f'<rect x="{left:.1f}" y="{bar_y:.1f}" width="{length:.1f}" height="{BAR}" fill="{colour}"/>'
        )
        if value > end:
            # Cut: two slanted strokes of nothing.
            for shift in (16, 10):
                marks.append(
                    f'<path d="M{left + length - shift:.1f} {bar_y + BAR:.1f}l5 -{BAR}h2l-5 {BAR}z"'
                    ' fill="#fff" fill-opacity=".85"/>'
                )
        marks.append(_text(left + length + 5, bar_y + BAR - 4, page.micro(value), more=weight))
    height = len(bars) * (BAR + GAP)
    if limit:
        at = left + room * limit / end
        marks.append(
            f'<path d="M{at:.1f} {top - 4:.1f}v{height + 4:.1f}" stroke="{LINE}" stroke-width="1.5"'
            ' stroke-dasharray="4 3" fill="none"/>'
        )
        marks.append(
            _text(at, top + height + 10, f"reference {page.micro(limit)}", anchor="middle", colour=LINE)
        )
    return marks, 26 + height + 26


def draw(figures: kept.Run) -> str:
    """The picture as SVG."""
    panels = [(title, figures["works"][name]) for name, title in PANELS if name in figures["works"]]
    panels = [(title, work) for title, work in panels if _bars(work)]
    marks: list[str] = []
    y = float(HEAD)
    for start in range(0, len(panels), COLUMNS):
        tallest = 0.0
        for column, (title, work) in enumerate(panels[start : start + COLUMNS]):
            more, height = _panel(title, work, MARGIN + column * (WIDTH + 2 * MARGIN), y)
            marks += more
            tallest = max(tallest, height)
        y += tallest
    width = COLUMNS * (WIDTH + 2 * MARGIN)
    height = y + FOOT
    heading = "Server CPU per request, µs; shorter is better"
    machine = figures["machine"]
    foot = (
        f"one worker on one CPU · {machine['cpu']}, {machine['system']}, CPython {machine['python']}"
        f" · reference: a C server with constant answers · make compare"
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:.0f}" width="{width}"'
            ' font-family="system-ui, sans-serif" font-size="12" role="img"'
            ' aria-label="Server CPU per request of cyhorn and other WSGI servers">',
            _text(MARGIN, 24, heading, more=' font-size="15" font-weight="600"'),
            *marks,
            _text(MARGIN, height - 8, foot, colour=FAINT, more=' font-size="10.5"'),
            "</svg>",
            "",
        ]
    )
