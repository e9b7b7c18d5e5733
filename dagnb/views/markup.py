"""Markup from text that cannot be trusted.

Names, outputs and messages come from users' code. Pictures and pages write all their elements with
`element`, which escapes attributes, and pass text through `escaped`, so that no text becomes
markup.
"""

from __future__ import annotations

import html
import re

_SEQUENCE = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # OSC: window titles, hyperlinks
    r"|\x1b[PX^_][^\x1b]*\x1b\\"  # DCS, SOS, PM, APC
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x1b[ -/]*[0-~]"
)
# All characters but those that XML 1.0 allows and that do not reorder the text around them.
_UNFIT = re.compile(
    "[^\t\n\x20-\x7e\xa0-\u2029\u202f-\u2065\u206a-\ud7ff\ue000-\ufdcf\ufdf0-\ufffd"
    "\U00010000-\U0010ffff]"
)


def plain(text: str) -> str:
    """The text as a terminal would show it, without control characters.

    Escape sequences are dropped, and a carriage return overwrites its line, as progress bars expect
    it. Characters are dropped, too, that XML forbids (control characters, lone surrogates) or that
    reorder the text around them (overrides of the writing direction).
    """
    # Sequences first: once its escape character is dropped, the rest of one would look like text.
    text = _SEQUENCE.sub("", text)
    if "\r" in text:
        text = "\n".join(_overwritten(line) for line in text.split("\n"))
    return _UNFIT.sub("", text)


def _overwritten(line: str) -> str:
    # The last part with text counts: a line that ends in "\r" still shows the text before it.
    return next((part for part in reversed(line.split("\r")) if part), "")


def escaped(text: str) -> str:
    """The text for an element or a quoted attribute of HTML or SVG."""
    return html.escape(plain(text))


def shortened(text: str, limit: int) -> str:
    """The text, or its two ends around an ellipsis, at most `limit` characters."""
    if len(text) <= limit:
        return text
    tail = (limit - 1) // 2
    return f"{text[: limit - 1 - tail]}…{text[len(text) - tail :]}"


def element(tag: str, *inside: str, **attributes: str | float | None) -> str:
    """Write one element. `inside` is markup already.

    Attributes are escaped; None leaves one out; `_` in a name becomes `-`, at its end it is
    dropped.

    >>> element("a", escaped("1 < 2"), class_="x", data_task=3)
    '<a class="x" data-task="3">1 &lt; 2</a>'
    """
    head = tag
    for name, value in attributes.items():
        if value is None:
            continue
        written = escaped(value) if isinstance(value, str) else number(value)
        head += f' {name.rstrip("_").replace("_", "-")}="{written}"'
    if not inside:
        return f"<{head}/>"
    return f"<{head}>{''.join(inside)}</{tag}>"


def number(value: float) -> str:
    """A coordinate with at most two decimals.

    >>> number(3.0), number(2.345678)
    ('3', '2.35')
    """
    return f"{value:.2f}".rstrip("0").rstrip(".")
