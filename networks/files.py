"""Paths and atomic file writes; in `networks` because every other package may import it."""

from __future__ import annotations

import os
from pathlib import Path


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write `content` to `path` in one step: a reader or a crash sees the old content or the new, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def closest_existing(path: Path) -> Path:
    """Return the path, or its closest parent that exists."""
    return path if path.exists() else closest_existing(path.parent)


def link_outside(folder: Path) -> str | None:
    """Return one line that names a symbolic link which leads out of `folder`: its target would be read or written.

    Links within wandb/ are W&B's own, which lead to its logs; nothing of ours opens them.
    """
    for path in folder.rglob("*"):
        if (
            path.relative_to(folder).parts[0] != "wandb"
            and path.is_symlink()
            and not path.resolve().is_relative_to(folder.resolve())
        ):
            return f"{path} is a symbolic link that leads out of the folder; put the file itself there"
    return None
