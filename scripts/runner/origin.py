"""Where measured numbers come from: machine, versions, commit and command."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from agents.run import machine, provenance


@dataclass(frozen=True)
class Origin:
    """Where measured numbers come from."""

    machine: dict[str, str | int | float | None]
    """Processor, cores, memory in GB, operating system and GPU."""
    versions: dict[str, str]
    """Versions of Python and of the libraries that can change a result."""
    git: dict[str, str | bool]
    """`commit`, and whether the work tree was `dirty`."""
    command: str
    created: str
    """ISO 8601, in UTC."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields as they stand in JSON files."""
        return asdict(self)


def origin() -> Origin:
    """Return machine, versions, commit and command of this process."""
    return Origin(machine.hardware(), machine.versions(), **provenance.describe())
