"""The place of a live view: what is read there when no view comes."""

from __future__ import annotations

from dagnb.views.view import placeholder_bundle


def test_a_placeholder_says_how_to_attach_and_escapes_what_a_run_is_called() -> None:
    shown = placeholder_bundle("01RUN", name="<b>bold</b>", started_at=1.8e9)

    assert "&lt;b&gt;bold&lt;/b&gt;" in shown["text/html"]
    assert "<b>bold</b>" not in shown["text/html"]
    assert "%dag attach 01RUN" in shown["text/html"]
    assert shown["text/plain"].startswith("<b>bold</b>, started 2027-01-1")


def test_a_placeholder_offers_no_run_that_ended_with_its_kernel() -> None:
    shown = placeholder_bundle("01RUN", can_attach=False)

    assert "%dag attach" not in shown["text/html"]
    assert "The run ended if that kernel was restarted or shut down" in shown["text/html"]
