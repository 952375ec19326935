"""Former names of options still work."""

from __future__ import annotations

import pytest

from agents.value.dqn import DQNConfig
from scripts.command_line.errors import UsageError
from scripts.command_line.options import parse


@pytest.mark.parametrize(
    ("words", "sampling"),
    [
        (["--prioritized"], "prioritized"),
        (["--no-prioritized"], "uniform"),
        (["--prioritized=true"], "prioritized"),
        (["--prioritized=False"], "uniform"),
        (["--no_prioritized", "--n-step", "3"], "uniform"),
    ],
)
def test_prioritized_chooses_the_sampling(words: list[str], sampling: str) -> None:
    opposite = "uniform" if sampling == "prioritized" else "prioritized"
    config = parse(DQNConfig, words, prog="train.py dqn", default=DQNConfig(replay_sampling=opposite))  # type: ignore[arg-type]
    assert config.replay_sampling == sampling
    assert config.n_step == (3 if "--n-step" in words else 1)


def test_adam_epsilon_is_the_optimizers() -> None:
    assert parse(DQNConfig, ["--adam-epsilon", "0.5"], prog="train.py dqn").optimizer_epsilon == 0.5


def test_prioritized_takes_true_or_false_only() -> None:
    with pytest.raises(UsageError, match="prioritized"):
        parse(DQNConfig, ["--prioritized=maybe"], prog="train.py dqn")
