"""Other names of settings: our former names are accepted; for names from other libraries, errors suggest ours."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

OLD_NAMES = {"dir": "runs-dir", "adam-epsilon": "optimizer-epsilon"}
"""Our own former names: accepted as the new one wherever a command has it."""
OLD_SWITCHES = {"prioritized": ("replay-sampling", "prioritized", "uniform")}
"""Our own former switches -> the option that took their place, its value when on and when off."""

OTHER_LIBRARIES = {
    "lr": ("learning-rate",),
    "alpha": ("learning-rate",),
    "learning-rate-schedule": ("schedule",),
    "lr-schedule": ("schedule",),
    "anneal-lr": ("schedule",),
    "env-id": ("env",),
    "n-envs": ("num-envs",),
    "n-env": ("num-envs",),
    "num-env": ("num-envs",),
    "envs": ("num-envs", "env"),
    "timesteps": ("total-steps",),
    "n-timesteps": ("total-steps",),
    "total-timesteps": ("total-steps",),
    "num-timesteps": ("total-steps",),
    "max-steps": ("total-steps",),
    "steps": ("total-steps",),
    "n-steps": ("rollout-length", "n-step"),
    "num-steps": ("rollout-length", "n-step"),
    "rollout-steps": ("rollout-length", "n-steps"),
    "rollout-length": ("n-steps",),
    "n-step": ("n-steps",),
    "ent-coef": ("entropy-coef",),
    "entropy-coef": ("ent-coef",),
    "entropy-coefficient": ("entropy-coef", "ent-coef"),
    "vf-coef": ("value-coef",),
    "value-coef": ("vf-coef",),
    "clip-range": ("clip",),
    "clip-coef": ("clip", "clip-range"),
    "clip": ("clip-range",),
    "clip-vloss": ("clip-value",),
    "norm-adv": ("normalize-advantage",),
    "lambda": ("gae-lambda",),
    "lam": ("gae-lambda",),
    "n-epochs": ("epochs",),
    "update-epochs": ("epochs", "n-epochs"),
    "epochs": ("n-epochs",),
    "num-minibatches": ("minibatches",),
    "n-minibatch": ("minibatches",),
    "nminibatches": ("minibatches",),
    "batch": ("batch-size", "minibatches"),
    "batch-size": ("minibatches",),
    "minibatch-size": ("batch-size", "minibatches"),
    "max-gradient-norm": ("max-grad-norm",),
    "grad-clip": ("max-grad-norm",),
    "discount": ("gamma",),
    "buffer-size": ("replay-capacity",),
    "replay-size": ("replay-capacity", "buffer-size"),
    "memory-size": ("replay-capacity", "buffer-size"),
    "replay-capacity": ("buffer-size",),
    "learning-start": ("learning-starts",),
    "train-freq": ("replay-ratio",),
    "train-frequency": ("replay-ratio", "train-freq"),
    "gradient-steps": ("replay-ratio",),
    "target-update-interval": ("target-period",),
    "target-network-frequency": ("target-period", "target-update-interval"),
    "target-period": ("target-update-interval",),
    "tau": ("target-tau",),
    "exploration-fraction": ("epsilon-steps", "epsilon-fraction"),
    "exploration-final-eps": ("epsilon-end",),
    "exploration-initial-eps": ("epsilon-start",),
    "start-e": ("epsilon-start", "exploration-initial-eps"),
    "end-e": ("epsilon-end", "exploration-final-eps"),
    "eps-start": ("epsilon-start", "exploration-initial-eps"),
    "eps-end": ("epsilon-end", "exploration-final-eps"),
    "eps-decay": ("epsilon-steps", "exploration-fraction"),
    "n-quantiles": ("quantiles",),
    "num-quantiles": ("quantiles", "n-quantiles"),
    "n-atoms": ("atoms",),
    "num-atoms": ("atoms",),
    "net-arch": ("hidden",),
    "hidden-size": ("hidden", "core-size"),
    "hidden-sizes": ("hidden", "net-arch"),
    "lstm-hidden-size": ("core-size",),
    "lstm": ("core",),
    "recurrent": ("core",),
    "frame-size": ("image-size",),
    "track-wandb": ("track",),
    "wandb-project-name": ("project",),
    "project-name": ("project",),
    "exp-name": ("group",),
    "capture-video": ("videos",),
    "save-freq": ("checkpoint-steps",),
    "save-interval": ("checkpoint-steps",),
    "eval-freq": ("checkpoint-steps",),
    "n-eval-episodes": ("eval-episodes", "episodes"),
    "cuda": ("device",),
    "log-dir": ("run-dir", "runs-dir"),
    "output-dir": ("run-dir", "out"),
}
"""Name elsewhere -> ours; the first that the command has is named in the error."""


def closest(name: str, names: Iterable[str], dashes: str = "") -> str:
    """Return the end of an error about an unknown name: ours for one of another library, or the closest; or nothing.

    `names` have hyphens after `dashes`, as options, and underscores without, as fields.
    """
    names = list(names)
    spelt = [ours if dashes else ours.replace("-", "_") for ours in OTHER_LIBRARIES.get(name.replace("_", "-"), ())]
    elsewhere = [ours for ours in spelt if ours in names]
    if elsewhere:
        return f"; it is called {dashes}{elsewhere[0]} here"
    close = difflib.get_close_matches(name, names, 1) or [each for each in names if name and each.startswith(name)]
    return f"; did you mean {dashes}{close[0]}?" if close else ""
