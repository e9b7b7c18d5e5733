"""Parts of HTML pages and notebook outputs: style sheet, tables, and pre-formatted text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dagnb.views.markup import element, escaped
from dagnb.views.palette import style

# A class twice, as in `.dagnb.dagnb th`, outweighs the rules of notebook front ends.
# Line breaks are removed, so a line may end only where no space is needed.
_LOOK = """
.dagnb{color:var(--dagnb-ink)}
div.dagnb{font:13px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,
sans-serif}
.dagnb h1,.dagnb h2,.dagnb h3{line-height:1.25;margin:0;font-weight:600}
.dagnb h1{font-size:22px}.dagnb h2{font-size:15px;margin:30px 0 8px}.dagnb h3{font-size:13px}
.dagnb p{margin:2px 0 8px}
.dagnb pre{background:var(--dagnb-soft);border:1px solid var(--dagnb-line);border-radius:6px;
padding:9px 12px;margin:6px 0;overflow:auto;max-height:420px;white-space:pre;color:var(--dagnb-ink);
font:11.5px/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace}
.dagnb table{border-collapse:collapse;margin:4px 0;color:var(--dagnb-ink)}
.dagnb.dagnb th,.dagnb.dagnb td{text-align:left;padding:3px 18px 3px 0;
border-bottom:1px solid var(--dagnb-grid);font-weight:400;background:none}
.dagnb th{color:var(--dagnb-dim)}
.dagnb.dagnb .right{text-align:right;font-variant-numeric:tabular-nums}
.dagnb summary{cursor:pointer;color:var(--dagnb-dim)}
.dagnb .scroll{overflow-x:auto}.dagnb .scroll svg{display:block}
.dagnb .meter{display:inline-block;height:9px;border-radius:2px;vertical-align:baseline}
.dagnb article{border-left:3px solid var(--dagnb-failed);padding:1px 0 1px 12px;margin:12px 0}
""".replace("\n", "")


def fragment(*body: str) -> str:
    """HTML with its style sheet, for a notebook's output."""
    return element("div", element("style", style() + _LOOK), *body, class_="dagnb")


def pre(text: str) -> str:
    """Text with its spaces and line breaks, in a box that scrolls."""
    return element("pre", escaped(text))


def scrolled(picture: str) -> str:
    """A picture that may be wider than the page."""
    return element("div", picture, class_="scroll")


def meter(share: float, role: str = "running") -> str:
    """A bar for a share of 1, at most 160 pixels, in the colour of a role."""
    # At least a pixel: a small share is not nothing.
    look = f"width:{max(1.0, 160 * min(share, 1.0)):.0f}px;background:var(--dagnb-{role})"
    return element("span", "", class_="meter", style=look)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """A table. Heads are text; cells are markup already. right: positions of columns of numbers."""
    sides = ["right" if i in right else None for i in range(len(heads))]
    head = _row("th", map(escaped, heads), sides)
    body = [_row("td", row, sides) for row in rows]
    return element("table", element("thead", head), element("tbody", *body))


def _row(tag: str, cells: Iterable[str], sides: Sequence[str | None]) -> str:
    inside = [element(tag, cell, class_=side) for cell, side in zip(cells, sides, strict=True)]
    return element("tr", *inside)
