"""Options become typed settings; mistakes, former names and names of other libraries end in one helpful line."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from tyro.conf import Positional, arg

from agents.annotations import coerce, in_words
from agents.presets import registry
from agents.setting_names import OTHER_LIBRARIES
from agents.value.dqn import DQN, DQNConfig
from scripts.command_line.algorithms import ALGORITHMS
from scripts.command_line.errors import UsageError, behind_dashes
from scripts.command_line.groups import GROUPS, documentation, grouped, train_settings
from scripts.command_line.options import integer, option_names, options_of, parse, value_of
from scripts.runner.settings import family_of_preset, override, resolve
from tests.scripts.inside import call


@dataclass(frozen=True)
class Group:
    """A heading of its own."""

    tags: tuple[str, ...] = ()
    """Words."""
    mode: Literal["slow", "fast"] = "slow"
    """One of two."""


@dataclass(frozen=True)
class Example:
    """Options of an example."""

    name: Annotated[Positional[str], arg(metavar="NAME")] = ""
    """A word that stands alone."""
    total_steps: int = 1_000
    """A whole number."""
    learning_rate: float = 0.1
    """A number."""
    double: bool = True
    """A switch."""
    stop: float | None = None
    """A number or None."""
    hidden: tuple[int, ...] = (64, 64)
    """Whole numbers."""
    start: Annotated[Path | None, arg(name="from")] = None
    """Another name than the field's."""
    env_kwargs: dict[str, int | float | bool | str] = field(default_factory=dict)
    """Pairs."""
    group: Group = Group()


def example(line: str) -> Example:
    return parse(Example, line.split(), prog="example.py")


@pytest.mark.parametrize(
    ("text", "value"),
    [("7", 7), ("-3", -3), ("1e6", 1_000_000), ("1_000_000", 1_000_000), ("1M", 1_000_000), ("1.5M", 1_500_000),
     ("10k", 10_000), ("2.5e3", 2_500), ("9" * 25, 10**25 - 1)],
)  # fmt: skip
def test_a_whole_number_can_be_written_in_the_usual_ways(text: str, value: int) -> None:
    assert integer(text) == value
    assert example(f"--total-steps {text}").total_steps == example(f"--total-steps={text}").total_steps == value


@pytest.mark.parametrize("text", ["1.5", "1e-3", "k", "", "M1", "nan", "inf", "1e999999999", "0x10", "ten"])
def test_other_text_is_no_whole_number(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        integer(text)


@pytest.mark.parametrize(
    ("line", "changes"),
    [
        ("one --learning-rate 1e-3", {"name": "one", "learning_rate": 1e-3}),
        ("--learning_rate=-1e-3 one", {"name": "one", "learning_rate": -1e-3}),
        ("--no-double", {"double": False}), ("--double", {}), ("--double=False", {"double": False}),
        ("--double=true", {}), ("--no-double --double=true", {}), ("--no-double=true", {"double": False}),
        ("--stop None", {}), ("--stop 3", {"stop": 3.0}), ("--hidden 8 1k", {"hidden": (8, 1_000)}),
        ("--hidden", {"hidden": ()}), ("--from a/b", {"start": Path("a/b")}),
        ("--env-kwargs a 1 b 0.5 c True d 10k", {"env_kwargs": {"a": 1, "b": 0.5, "c": True, "d": "10k"}}),
        ("--tags x y --mode fast", {"group": Group(("x", "y"), "fast")}), ("--stop 1 --stop 2", {"stop": 2.0}),
    ],
)  # fmt: skip
def test_options_are_read_into_their_fields(line: str, changes: dict[str, Any]) -> None:
    assert example(line) == Example(**changes)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--learning-rat 1", "example.py has no option --learning-rat; did you mean --learning-rate?"),
        ("--learn 1", "has no option --learn; did you mean --learning-rate?"), ("--zzz", "no option --zzz; see --help"),
        ("-x 1", "has no option -x"), ("--lr 1", "no option --lr; it is called --learning-rate here"),
        ("--n_timesteps=9", "no option --n_timesteps; it is called --total-steps here"),
        ("--total-steps 1.5", "--total-steps takes a whole number, not 1.5"),
        ("--total-steps", "--total-steps takes a whole number"), ("--learning-rate abc", "takes a number, not abc"),
        ("--stop none", "--stop takes a number or None, not none"), ("--hidden 1 x", "takes whole numbers, not 1 x"),
        ("--mode medium", "--mode takes one of slow, fast, not medium"), ("--double=3", "takes true or false, not 3"),
        ("--env-kwargs a", "--env-kwargs takes pairs: NAME VALUE, not a"), ("a b", "cannot read b"),
        ("a --total-steps 1 2", "cannot read 2"), ("a --double b", "cannot read b"), ("--no-total-steps", "no option"),
        ("--tags a --mode", "--mode takes one of slow, fast"), ("--no-double=1", "--no-double takes true or false"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_without_a_box(line: str, message: str, capsys: Any) -> None:
    with pytest.raises(UsageError) as caught:
        example(line)
    assert message in str(caught.value)
    assert not set("╭│\n") & set(str(caught.value))
    assert capsys.readouterr() == ("", "")


def test_the_help_has_groups_defaults_and_no_code(capsys: Any) -> None:
    with pytest.raises(SystemExit) as caught:
        example("--help")
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for words in ("usage: example.py", "group options", "A heading of its own.", "--from", "(default: 1_000)"):
        assert words in text


def test_options_can_be_read_before_all_are_known() -> None:
    words = ["ppo", "--env=a", "--seed", "-1", "--env", "b", "-h"]
    assert option_names(words) == {"env", "seed", "h"}
    assert (value_of("--env", words), value_of("--seed", words), value_of("--core", words)) == ("b", "-1", None)
    assert behind_dashes(["a", "--", "b", "--"]) == (["a"], ["b", "--"])
    assert behind_dashes(["a"]) == (["a"], [])


@pytest.mark.parametrize("algorithm", registry.ALGORITHMS)
def test_every_setting_is_an_option_of_one_group_with_a_documented_field(algorithm: str) -> None:
    kind = registry.ALGORITHMS[algorithm][0]
    groups = grouped(kind, set())
    assert set(groups) == {"algorithm", *GROUPS}
    names = [each.name for group in groups.values() for each in fields(group)]
    assert sorted(names) == sorted(each.name for each in fields(kind))
    missing = [name for name in names if not documentation(kind).get(name)]
    assert missing == []
    assert train_settings(algorithm, "CartPole-v1", None, []) == resolve(algorithm, "CartPole-v1")


def test_settings_by_option_are_settings_by_name() -> None:
    words = [
        "--core",
        "lstm",
        "--total-steps",
        "10k",
        "--hidden",
        "8",
        "8",
        "--env-kwargs",
        "noise",
        "0.1",
        "--double=false",
        "--stop-return",
        "None",
    ]
    named = {"core": "lstm", "total_steps": 10_000, "hidden": [8, 8], "env_kwargs": {"noise": 0.1}, "double": False,
             "stop_return": None}  # fmt: skip
    assert train_settings("dqn", "CartPole-v1", "tiny", words) == resolve("dqn", "CartPole-v1", "tiny", named)


def test_the_help_of_an_algorithm_shows_its_own_settings_first_and_the_presets_values() -> None:
    done = call("train", "dqn", "--env", "ALE/Pong-v5", "--help")
    assert done.code == 0
    assert done.err == ""
    assert all(f" {name} options " in done.out for name in ("algorithm", *GROUPS, "tracking"))
    assert "10_000_000" in done.out  # the budget of the Atari preset
    groups = grouped(DQNConfig, set())
    assert list(groups) == ["algorithm", *GROUPS]
    names = [each.name for each in fields(groups["algorithm"])]
    assert names.index("double") < names.index("replay_ratio") < names.index("gamma")


def test_every_algorithm_has_a_line_in_the_help() -> None:
    assert set(ALGORITHMS) == set(registry.ALGORITHMS)


def test_names_of_other_libraries_lead_to_options_that_exist() -> None:
    known = {each.name.replace("_", "-") for kind, _ in registry.ALGORITHMS.values() for each in fields(kind)}
    known |= {option.name for option in options_of(_train_options())}
    commands = {"episodes", "out", "runs-dir"}  # of evaluate.py and of the experiments
    for name, ours in OTHER_LIBRARIES.items():
        assert set(ours) <= known | commands, name
        assert name not in ours


def _train_options() -> type:
    from scripts.train import TrainOptions

    return TrainOptions


@dataclass(frozen=True)
class Renamed:
    """Options that had other names."""

    optimizer_epsilon: float = 0.0
    replay_sampling: Literal["uniform", "prioritized"] = "uniform"
    runs_dir: str = ""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--adam-epsilon 0.5 --prioritized --dir x", Renamed(0.5, "prioritized", "x")),
        ("--adam_epsilon=0.5 --prioritized=true --dir=x", Renamed(0.5, "prioritized", "x")),
        ("--prioritized --no-prioritized", Renamed()), ("--prioritized --prioritized=false", Renamed()),
    ],
)  # fmt: skip
def test_former_names_are_accepted(line: str, expected: Renamed) -> None:
    assert parse(Renamed, line.split(), prog="x.py") == expected


def test_former_names_of_settings_are_accepted() -> None:
    assert override(Renamed(), {"adam_epsilon": 1, "prioritized": True}, "x") == Renamed(1.0, "prioritized")
    assert override(Renamed(0.5, "prioritized"), {"prioritized": False}, "x") == Renamed(0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("dqnn", "CartPole-v1"), "unknown algorithm 'dqnn'; did you mean dqn?"),
        (("dqn", "CartPol-v1"), "unknown environment 'CartPol-v1'"),
        (("dqn", "CartPole-v1", "huge"), "no preset 'huge'"),
        (("dqn", "CartPole-v1", None, {"lerning_rate": 1}), "no setting 'lerning_rate'; did you mean learning_rate?"),
        (("dqn", "CartPole-v1", None, {"lr": 1}), "no setting 'lr'; it is called learning_rate here"),
        (("dqn", "CartPole-v1", None, {"learning_rate": "x"}), "learning_rate takes a number, not 'x'"),
        (("dqn", "CartPole-v1", None, {"total_steps": 1.5}), "total_steps takes a whole number, not 1.5"),
        (("dqn", "CartPole-v1", None, {"double": 1}), "double takes true or false, not 1"),
        (("dqn", "CartPole-v1", None, {"core": "elman"}), "--core must be one of"),
        (("dqn", "CartPole-v1", None, {"gamma": 2}), "--gamma must lie in 0 to 1, not 2"),
    ],
)  # fmt: skip
def test_a_setting_that_cannot_be_is_one_line(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=r".*") as caught:
        resolve(*arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (1, float, 1.0), (1e6, int, 1_000_000), (None, int | None, None), ([1, 2], tuple[int, ...], (1, 2)),
        ("a", Literal["a", "b"], "a"), ({"x": 1}, dict[str, int | str], {"x": 1}), (True, bool, True),
    ],
)  # fmt: skip
def test_values_take_the_type_of_their_annotation(value: object, kind: Any, expected: object) -> None:
    found = coerce(value, kind)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "kind"),
    [(True, int), ("1", int), (1.5, int), (1, bool), ("c", Literal["a", "b"]), ([1.5], tuple[int, ...]), (1, str),
     (float("nan"), int), ({"x": []}, dict[str, int]), (None, int)],
)  # fmt: skip
def test_values_of_another_type_are_refused(value: object, kind: Any) -> None:
    with pytest.raises(ValueError, match=r".*"):
        coerce(value, kind)
    assert in_words(kind)


def test_a_preset_of_another_family_is_pointed_out() -> None:
    with pytest.warns(
        UserWarning, match="the preset atari-fast is for atari games; CartPole-v1 is of the family classic"
    ):
        resolve("ppo", "CartPole-v1", "atari-fast")
    assert family_of_preset("sb3-ppo", "zoo-cartpole") == "classic"


@dataclass(frozen=True)
class OwnConfig(DQNConfig):
    """Settings of an algorithm of a user's own."""

    learning_rate: float = 0.125
    gap: float = 0.9
    """Of its own."""


def test_an_algorithm_without_a_preset_takes_that_of_its_base(monkeypatch: Any) -> None:
    monkeypatch.setitem(registry.ALGORITHMS, "own", (OwnConfig, DQN))
    with pytest.warns(UserWarning, match="own has no preset for atari games; it takes that of dqn"):
        config = resolve("own", "ALE/Pong-v5")
    base = resolve("dqn", "ALE/Pong-v5")
    assert isinstance(config, OwnConfig)
    assert (config.learning_rate, config.gap) == (0.125, 0.9)
    others = [each.name for each in fields(DQNConfig) if each.name != "learning_rate"]
    assert [getattr(config, name) for name in others] == [getattr(base, name) for name in others]
