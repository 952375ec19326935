"""W&B sweep files, checked (docs.wandb.ai/models/sweeps/sweep-config-keys); needs the extra `sweep` for pydantic."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from agents.errors import ConfigError
from scripts.runner.files import read_yaml

Range = Literal["uniform", "int_uniform", "q_uniform", "log_uniform_values", "q_log_uniform_values"]
Choice = Literal["constant", "categorical", "categorical_w_probabilities"]
ARGUMENTS = ("${args}", "${args_no_boolean_flags}")


class Model(BaseModel):
    """Base of the parts of a sweep file: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Parameter(Model):
    """One parameter: a constant `value`, a choice among `values`, or a range from `min` to `max`."""

    value: Any = None
    values: list[Any] | None = None
    probabilities: list[float] | None = None
    distribution: Range | Choice | None = None
    min: int | float | None = None
    max: int | float | None = None
    q: int | float = 1
    """Step to which the q_ distributions round."""

    @field_validator("min", "max", mode="before")
    @classmethod
    def _number(cls, value: object) -> object:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ValueError(f"must be a number, not {value} (YAML reads 1e-4 as text: write 0.0001)")
        return value

    @model_validator(mode="after")
    def _complete(self) -> Parameter:
        if "value" in self.model_fields_set:
            return self
        if self.values is not None:
            if not self.values:
                raise ValueError("values must not be empty")
            if self.probabilities is not None and (
                len(self.probabilities) != len(self.values) or not math.isclose(sum(self.probabilities), 1.0)
            ):
                raise ValueError("probabilities must be one for each of values, and sum to 1")
            return self
        if self.min is None or self.max is None or self.min > self.max or self.distribution in get_args(Choice):
            raise ValueError("give value, values, or min and a max that is not below it")
        if "log" in self.kind and self.min <= 0:
            raise ValueError(f"a logarithmic range begins above 0, not at {self.min}")
        if self.q <= 0:
            raise ValueError(f"q must be above 0, not {self.q}")
        return self

    @property
    def kind(self) -> Range | Choice:
        """Distribution of a range: by default of whole numbers where both ends are whole."""
        whole = isinstance(self.min, int) and isinstance(self.max, int)
        return self.distribution or ("int_uniform" if whole else "uniform")

    @property
    def choices(self) -> list[Any] | None:
        """Values to choose from; None for a range."""
        return [self.value] if "value" in self.model_fields_set else self.values


class Metric(Model):
    """Figure that ranks the trials."""

    name: Literal["eval/return_mean", "episode/return"] = "eval/return_mean"
    goal: Literal["maximize", "minimize"] = "maximize"


class SweepFile(Model):
    """A sweep file; keys that only concern W&B's server are accepted and ignored."""

    program: str = "scripts/train.py"
    method: Literal["grid", "random", "bayes"]
    metric: Metric = Metric()
    parameters: dict[str, Parameter]
    command: list[Any]
    run_cap: int | None = None
    name: str | None = None
    description: str | None = None
    project: str | None = None
    entity: str | None = None

    @model_validator(mode="after")
    def _complete(self) -> SweepFile:
        if not self.parameters:
            raise ValueError("there are no parameters")
        if not set(ARGUMENTS) & set(map(str, self.command)):
            raise ValueError(f"command must end in {ARGUMENTS[0]}")
        if "${program}" not in self.command:
            raise ValueError("command must run ${program}, which is scripts/train.py")
        ranges = [name for name, parameter in self.parameters.items() if parameter.choices is None]
        if self.method == "grid" and ranges:
            raise ValueError(f"a grid needs the values of {', '.join(ranges)}, one by one")
        return self


class TrainCommand(NamedTuple):
    """The parts of a sweep file's train.py command."""

    algorithm: str
    env: str
    preset: str | None
    total_steps: int
    options: list[str]
    """All other options."""


def read_sweep_file(path: Path) -> SweepFile:
    """Return a sweep file; raise ConfigError, in one line, where it is invalid or needs W&B's server."""
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise ConfigError(f"{path} is not a sweep file: it has no parameters")
    if "early_terminate" in values:
        raise ConfigError(
            f"{path}: early_terminate cannot be followed here, where a stopped sweep must give the same trials again; "
            "use `wandb sweep`, or take it out"
        )
    try:
        return SweepFile.model_validate(values)
    except ValidationError as error:
        first, *_ = error.errors(include_url=False)
        place = ".".join(str(part) for part in first["loc"])
        unknown = first["type"] == "extra_forbidden"
        message = "unknown key" if unknown else first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{path}: {f'{place}: ' if place else ''}{message}") from error


def read_command(file: SweepFile, path: Path) -> TrainCommand:
    """Return the parts of the train.py command; raise ConfigError where it lacks algorithm, game or budget."""
    texts = [str(word) for word in file.command]
    words = [word for word in texts[texts.index("${program}") + 1 :] if word not in ARGUMENTS]
    if not words or words[0].startswith("-"):
        raise ConfigError(f"{path}: command must name an algorithm behind ${{program}}")
    algorithm, *words = words
    taken: dict[str, str] = {}
    options: list[str] = []
    while words:
        name, equals, value = words.pop(0).partition("=")
        if name not in ("--env", "--preset", "--total-steps", "--track"):
            options.append(f"{name}{equals}{value}")
        elif equals or words:
            taken[name] = value if equals else words.pop(0)  # --track is for W&B's agent
    if "--env" not in taken or not taken.get("--total-steps", "").isdecimal():
        raise ConfigError(f"{path}: command must give --env ID and --total-steps N")
    return TrainCommand(
        algorithm, taken["--env"], taken.get("--preset"), int(taken["--total-steps"]), options
    )  # fmt: skip
