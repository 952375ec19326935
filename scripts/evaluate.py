"""Evaluate a run's agent under the run's own protocol: full games, raw scores.

Examples:
  evaluate.py runs/RUN --episodes 100 --checkpoint best

The last line is JSON; with --json it is the only one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tyro.conf import Positional, arg

from agents.settings import ChannelName
from scripts.command_line.errors import UsageError, run_main
from scripts.command_line.options import option_names, parse

PROGRAM = "evaluate.py"
OWN = "(default: the run's own)"


@dataclass(frozen=True)
class EvaluateOptions:
    """Options of the command."""

    run: Annotated[Positional[Path | None], arg(metavar="RUN", help_behavior_hint="(required)")] = None
    """Run folder."""
    episodes: Annotated[int, arg(metavar="N")] = 30
    """Full games to play."""
    seed: Annotated[int, arg(metavar="S")] = 0
    """Seed of the evaluation games, which never coincide with training games."""
    checkpoint: Annotated[str, arg(metavar="NAME")] = "latest"
    """latest, best, or a checkpoint's name."""
    json: bool = False
    """Print only the JSON line."""
    env_kwargs: Annotated[dict[str, int | float | bool | str], arg(help_behavior_hint="")] = field(default_factory=dict)
    """Arguments of the environment to change, in pairs: --env-kwargs flicker 0.5."""
    repair: Annotated[str | None, arg(metavar="R", help_behavior_hint=OWN)] = None
    """Repair of failing sensors, as for train.py."""
    mission_channel: Annotated[ChannelName | None, arg(help_behavior_hint=OWN)] = None
    """Form of missions."""
    interpreter: Annotated[Path | None, arg(metavar="RUN", help_behavior_hint=OWN)] = None
    """Folder of a translation or speech-to-text task that turns missions into English."""


def main() -> None:
    """Parse, load, evaluate, print."""
    words = sys.argv[1:]
    if "env" in option_names(words):
        raise UsageError("evaluate.py plays the run's own game: leave --env out (--env-kwargs changes its arguments)")
    options = parse(EvaluateOptions, words, prog=PROGRAM, description=__doc__)
    if options.run is None:
        raise UsageError("name a run folder: evaluate.py RUN")
    if options.episodes < 1 or options.seed < 0:
        raise UsageError("--episodes must be at least 1 and --seed not negative")
    if not options.json:
        print(f"loading {options.run} ...", flush=True)
    evaluate(options, options.run)


def evaluate(options: EvaluateOptions, folder: Path) -> None:
    """Play the games, keep them with the run, and print the result."""
    from scripts.runner import mission_channels
    from scripts.runner.evaluation import evaluate_agent, evaluation_seed, save_episodes, summary
    from scripts.runner.saved_run import load_run

    saved = load_run(folder, options.checkpoint)
    if not options.json:
        print(f"{saved.folder.name}, {saved.checkpoint.name}: {options.episodes} games of {saved.config.env}")
    config = mission_channels.with_channel(saved.config, options.mission_channel, options.interpreter)
    changed: Mapping[str, int | float | bool | str] = {**config.env_kwargs, **options.env_kwargs}
    config = replace(config, env_kwargs=dict(changed), repair=options.repair or config.repair)
    result = evaluate_agent(saved.agent, config, options.episodes, evaluation_seed(options.seed))
    save_episodes(saved, "eval", result, config)
    if not options.json:
        mean, std, length = result.return_mean, result.return_std, result.length_mean
        games = f"mean return of {result.episodes} games of {length:.0f} steps on average"
        print(f"evaluation score {mean:.2f} +- {std:.2f} ({games})")
    print(json.dumps({**summary(result, saved), "mission_channel": config.mission_channel}))


if __name__ == "__main__":
    run_main(main)
