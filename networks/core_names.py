"""Names of the cores, apart from their code: settings and the command line import no torch."""

from __future__ import annotations

from typing import Literal

CoreName = Literal["none", "gru", "lstm"]
