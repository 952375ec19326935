"""Tables on a console or in a file."""

from __future__ import annotations

import pytest

from scripts.report.tables import wide_console


def test_tables_are_wide_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert wide_console().width == 200
    monkeypatch.setenv("COLUMNS", "90")
    assert wide_console().width == 90
