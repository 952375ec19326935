"""Train every preset at its tiny size and write the SHA-256 of its weights: proof that a change keeps every bit.

    python -m tests.weight_hashes before.json           # on the old commit
    python -m tests.weight_hashes after.json --check before.json

Hashes hold on one machine only: another processor or another torch rounds differently.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from agents.build import build_agent
from agents.presets.registry import OURS, PRESETS, tiny
from agents.run import checkpoint
from agents.run.run import Run
from scripts.runner.environments import environments
from tests.agents.test_presets import TWINS, small, train
from tests.machine import CPU


def row(case: tuple[str, str, str]) -> tuple[str, str]:
    """Return the name of (algorithm, preset, core) and the hash, or the failure to train it."""
    try:
        return " ".join(case), weights_of(*case)
    except Exception as error:  # failures are in the table too: a new one is a difference
        return " ".join(case), f"{type(error).__name__}: {error}"


def weights_of(algorithm: str, name: str, core: str) -> str:
    """Train a preset at its tiny size and return the hash of its weights."""
    atari, plain = name.startswith("atari"), tiny(PRESETS[algorithm, name])
    config = replace(
        small(algorithm, name, core),  # type: ignore[arg-type]
        total_steps=150 if atari else 300,  # as in the recorded tables
        checkpoint_steps=plain.checkpoint_steps,
        image_size=44 if atari else plain.image_size,
    )
    with tempfile.TemporaryDirectory() as folder:
        if algorithm in OURS:
            agent, _ = train(algorithm, config, Path(folder))
        else:
            envs = environments(config, config.num_envs, threads=1)
            agent = build_agent(algorithm, config, envs, CPU)
            run = Run(Path(folder), config)
            run.checkpoint(agent)
            agent.train(envs, run, None)
            run.close()
            envs.close()
    return checkpoint.weights_sha256(agent)


def main() -> None:
    """Write the table; exit with 1 where it differs from --check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--check", type=Path, help="an earlier table to compare with")
    arguments = parser.parse_args()
    cases = [*TWINS, *((algorithm, name, "none") for algorithm, name in PRESETS if algorithm not in OURS)]
    with multiprocessing.get_context("fork").Pool(2, maxtasksperchild=1) as pool:
        hashes = dict(pool.imap(row, cases))
    arguments.out.write_text(json.dumps(hashes, indent=1) + "\n")
    if arguments.check is not None:
        before = json.loads(arguments.check.read_text())
        differing = sorted(key for key in before | hashes if before.get(key) != hashes.get(key))
        print(f"{len(hashes) - len(differing)} of {len(hashes)} equal", *differing, sep="\n")
        sys.exit(1 if differing else 0)


if __name__ == "__main__":
    main()
