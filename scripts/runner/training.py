"""One training from pre-flight to report: a new run, or the continuation of one."""

from __future__ import annotations

import contextlib
import shlex
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from agents import build
from agents.config import TrainConfig
from agents.errors import ConfigError, RunError
from agents.learner import Learner
from agents.replay.buffer import Replay
from agents.run import checkpoint, machine, preflight, provenance
from agents.run.display import Display
from agents.run.run import Run
from agents.run.tracking import Labels, TrackingSettings, TrackMode, make_tracker, new_run_id
from agents.scores import SCORE_GAMES
from envs.action_replays import RecordEpisodes
from networks.files import closest_existing
from scripts.report.page import write_report
from scripts.report.tables import print_line
from scripts.runner.custom_env import NAMESPACE
from scripts.runner.encoders import copy_encoders, encoder_facts, with_copied_encoders
from scripts.runner.environments import environments
from scripts.runner.evaluation import evaluate_agent
from scripts.runner.files import RUNS, check_folder, time_stamp
from scripts.runner.origin import origin
from scripts.runner.results import TrainResult
from scripts.runner.run_record import InitialRun, RunRecord, Spaces, read_record
from scripts.runner.saved_run import SavedRun, load_run, split_checkpoint
from scripts.runner.teacher_reward import add_teacher_reward

EVAL_SEED_OFFSET = 1_000_003
"""Added to a run's seed for evaluation during training: no training episode has the same seed."""


def start(
    algorithm: str,
    config: TrainConfig,
    *,
    run_dir: Path | None = None,
    tracking: TrackingSettings | None = None,
    videos: bool = False,
    dry_run: bool = False,
    initial_run: Path | None = None,
    progress: bool = True,
) -> TrainResult | None:
    """Train a new run in `run_dir` (default: a new folder in runs/); return None after a dry run.

    `initial_run` is a run folder, or RUN/checkpoints/NAME, whose weights the training starts from; optimizer, schedules
    and replay start afresh. `progress` shows the pre-flight, the live display and the closing lines. Raises ConfigError
    for settings that cannot work, RunError for a training that had to stop.
    """
    console, tracking = Console(quiet=not progress), tracking or TrackingSettings()
    tracking.validate()
    folder = _new_folder(run_dir or RUNS / run_name(algorithm, config))
    envs = add_teacher_reward(environments(config, config.num_envs), config)
    facts = build.resolve_machine(config, envs)
    # refuse what cannot be allocated before Stable-Baselines3 tries
    config.replay_bytes(envs.single_observation_space, build.frame_stack(envs), 0)
    agent = build.build_agent(algorithm, config, envs, facts)
    encoders, spaces = encoder_facts(config), Spaces.of(envs)
    if initial_run is not None:
        _check_spaces(initial_run, spaces)
    _show_plan(agent, envs, folder, console)
    for key, each in encoders.items():
        line = f"{each.arch} of {each.task}, {each.mode}; trained on {each.env_frames:,} env frames"
        print_line(console, f"  encoder of '{key}': {line}")
    if dry_run:
        return None
    replay = _allocate_replay(config, envs, agent, folder)
    build.fit_normalization(agent, envs, config.seed)
    record = RunRecord(
        algorithm, config, envs.game.to_json(), spaces, facts, origin(), new_run_id(), tracking.track, videos,
        Labels(tracking.project, tracking.group or f"{algorithm}__{config.env}", tracking.tags), encoders,
        _load_initial_weights(agent, initial_run) if initial_run is not None else None,
    )  # fmt: skip
    try:
        run = _make_run(folder, with_copied_encoders(config, folder), console)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be made ({error.strerror}); choose another --run-dir") from error
    copy_encoders(config, folder)
    run.checkpoint(agent, None, replay)
    record.write(folder)  # only now, with a checkpoint to resume from, is the folder a run
    if patch := provenance.diff():
        (folder / "git.diff").write_text(patch + "\n")
    _track(run, record, record.track)
    if videos:
        _video(agent, run, "untrained", console)
    return _train(agent, envs, replay, run, record, console)


def resume(
    folder: Path, track: TrackMode | None = None, total_steps: int | None = None, *, progress: bool = True
) -> TrainResult:
    """Continue a run from its latest checkpoint, bit for bit on a CPU; `track` None keeps the run's own tracking.

    `total_steps` extends the run's budget. The extended run equals one of that budget from the start if no schedule
    depends on `total_steps`, the old budget is a multiple of `checkpoint_steps`, and it shortened no rollout.
    """
    console = Console(quiet=not progress)
    folder, name = split_checkpoint(folder)
    old = record = read_record(folder)
    if total_steps is not None:
        if total_steps <= old.config.total_steps:
            raise ConfigError(f"--total-steps must be above the run's {old.config.total_steps:,}, not {total_steps}")
        record = replace(old, config=replace(old.config, total_steps=total_steps))
    config = with_copied_encoders(record.config, folder)
    envs = add_teacher_reward(environments(config, config.num_envs), config)
    saved = load_run(folder, "latest", envs, record)
    _check_resumable(saved, name)
    replay = _allocate_replay(config, envs, saved.agent, folder)
    if replay is not None:
        checkpoint.load_replay(saved.checkpoint, saved.state, replay)
    run = _make_run(folder, config, console)
    run.restore(saved.state)
    if record is not old:
        record.write(folder)
    _track(run, record, track or record.track)
    print_line(console, f"resuming {folder.name} at env step {run.env_steps:,}")
    for line in _inexactness(saved, old):
        print_line(console, line)
    return _train(saved.agent, envs, replay, run, record, console)


def run_name(algorithm: str, config: TrainConfig) -> str:
    """<algo>__<env>__s<seed>__<time>; two runs that start in one second differ in their last letters."""
    name = config.env.replace("/", "-")
    return f"{algorithm}__{name}__s{config.seed}__{time_stamp()}"


def _new_folder(folder: Path) -> Path:
    """Return the folder of a new run; raise ConfigError where there is one already."""
    if (folder / "config.json").exists():
        raise ConfigError(f"{folder} already holds a run; go on with it by --resume, or choose another --run-dir")
    check_folder(folder, "--run-dir")
    return folder


def _show_plan(agent: Learner, envs: RecordEpisodes, folder: Path, console: Console) -> None:
    """Print the pre-flight, which measures the speed; where it would not be seen, only warn."""
    if not console.quiet:
        preflight.plan(agent, envs, envs.game, folder).show(console)
        return
    for line in preflight.warnings_for(agent.config, envs.single_observation_space, envs.game):
        warnings.warn(line, stacklevel=4)


def _check_spaces(initial_run: Path, spaces: Spaces) -> None:
    """Raise ConfigError unless the run that a training starts from has its spaces."""
    folder, _ = split_checkpoint(initial_run)
    theirs = asdict(read_record(folder).spaces)
    for name, space in asdict(spaces).items():
        if theirs[name] != space:
            raise ConfigError(f"{folder} has another {name} space, {theirs[name]}; this training has {space}")


def _load_initial_weights(agent: Learner, initial_run: Path) -> InitialRun:
    """Load the weights of another run's checkpoint; raise CheckpointError if they do not fit."""
    folder, name = split_checkpoint(initial_run)
    path = checkpoint.resolve(folder / "checkpoints", name)
    state = checkpoint.load_weights(path, agent)
    return InitialRun(folder.resolve().name, path.name, state["weights_sha256"])


def _check_resumable(saved: SavedRun, name: str) -> None:
    """Raise ConfigError for a run that cannot be continued, or has nothing left to do."""
    folder, config, state = saved.folder, saved.config, saved.state
    if not saved.agent.resumable:
        raise ConfigError(f"{folder} is of Stable-Baselines3, which cannot go on in the middle; train it anew")
    if name not in ("latest", saved.checkpoint.name):
        raise ConfigError(f"a run resumes from its latest checkpoint, {saved.checkpoint.name}, not from {name}")
    recent = state["returns"][-config.stop_episodes :]
    solved = config.stop_return is not None and len(recent) == config.stop_episodes
    if config.stop_return is not None and solved and sum(recent) / len(recent) >= config.stop_return:
        raise ConfigError(
            f"{folder} is solved: its last {len(recent)} games reached {config.stop_return:g}; "
            "train a new run from its weights instead"
        )
    if state["env_steps"] >= config.total_steps:
        raise ConfigError(
            f"{folder} has already trained for its {config.total_steps:,} env steps; give more --total-steps"
        )


def _inexactness(saved: SavedRun, old: RunRecord) -> list[str]:
    """Return one line for each reason why the continued run may differ from an unbroken one."""
    device, config = str(saved.agent.device), saved.config
    lines = []
    if config.total_steps != old.config.total_steps:
        lines.append(
            f"extended from {old.config.total_steps:,} to {config.total_steps:,} env steps: equal to a run of that "
            "budget only if no schedule depends on it, the old one is a multiple of --checkpoint-steps, and it "
            "did not shorten the last rollout"
        )
    if device != old.machine_facts.device:
        lines.append(f"{old.machine_facts.device} is missing here: going on with {device}")
    if device.startswith("cuda"):
        lines.append("on CUDA the continued run is equivalent, but not bit for bit the unbroken one")
    now = {**machine.versions(), "processor": machine.hardware()["processor"]}
    then = {**old.origin.versions, "processor": old.origin.machine["processor"]}
    changed = (name for name in then if now.get(name) != then[name])
    return lines + [f"not exactly as before: {name} was {then[name]}, is {now.get(name)}" for name in changed]


def _allocate_replay(config: Any, envs: RecordEpisodes, agent: Learner, folder: Path) -> Replay | None:
    """Allocate the replay; None for an agent that learns without one."""
    layout = build.replay_layout(config, envs, agent.carry_dim)
    if layout is None:
        return None
    return build.build_replay(layout, agent.device, config.replay_storage, closest_existing(folder))


def _make_run(folder: Path, config: TrainConfig, console: Console) -> Run:
    """Open the run folder, with a display and the evaluation at each checkpoint."""
    display = None if console.quiet else Display(config.total_steps, config.env, config.stop_return, console)

    def evaluate(agent: Learner) -> dict[str, float]:
        result = evaluate_agent(agent, config, config.eval_episodes, config.seed + EVAL_SEED_OFFSET)
        for record in result.records:
            run.write("replays/judged.jsonl", record.to_json(kind="eval", env_steps=run.env_steps))
        return {"eval/return_mean": result.return_mean, "eval/return_std": result.return_std}

    run = Run(folder, config, display=display, evaluate=evaluate if config.eval_episodes else None)
    return run


def _track(run: Run, record: RunRecord, mode: TrackMode) -> None:
    """Start the tracker, with the run's settings as its config."""
    config = {
        "algo": record.algo, "env_id": record.config.env, **asdict(record.config),
        "fingerprint": record.fingerprint, "protocol": record.card["protocol"]["name"],
    }  # fmt: skip
    run.tracker = make_tracker(mode, run.folder, record.run_id, config, record.labels)


def _train(
    agent: Learner, envs: RecordEpisodes, replay: Replay | None, run: Run, record: RunRecord, console: Console
) -> TrainResult:
    """Train until the run is over; then record a video, write the report and print where everything is."""
    resume_line = f"python scripts/train.py --resume {shlex.quote(str(run.folder))}" if agent.resumable else ""
    try:
        _train_to_end(agent, envs, replay, run)
        result = TrainResult(run.folder, run.env_steps, tuple(run.returns), run.solved, run.signalled, run.wall_seconds)
        if record.videos and not run.signalled:
            _video(agent, run, "trained", console)
        _print_summary(result, run.config, preflight.smaller_than_published(run.config, envs.game), console)
        _finish_report(run, console)
    except KeyboardInterrupt as error:  # a second Ctrl-C, or one after the training
        last = checkpoint.resolve(run.folder / "checkpoints").name
        resumable = f"; go on with: {resume_line}" if resume_line else ""
        raise KeyboardInterrupt(f"stopped; the last saved checkpoint is {last}{resumable}") from error
    _print_next_steps(result, run.config, resume_line, console)
    return result


def _train_to_end(agent: Learner, envs: RecordEpisodes, replay: Replay | None, run: Run) -> None:
    """Train; raise RunError, with the module and the last good checkpoint, where numbers are no longer finite."""
    try:
        with run.display if run.display is not None else contextlib.nullcontext():
            agent.train(envs, run, replay)
    except (RuntimeError, ValueError) as error:
        # torch has no error class of its own for sampling from a policy of NaN; other RuntimeErrors are bugs
        if not isinstance(error, RunError | ValueError) and "probability tensor" not in str(error):
            raise
        where = checkpoint.non_finite(agent)
        last = checkpoint.resolve(run.folder / "checkpoints").name
        module = f"; the first bad numbers are in {where}" if where else ""
        step = "" if isinstance(error, RunError) else f" at env step {run.env_steps:,}"
        raise RunError(f"{error}{step}{module}; the last good checkpoint is {run.folder}/checkpoints/{last}") from error
    finally:
        run.close()
        envs.close()


def _video(agent: Learner, run: Run, name: str, console: Console) -> None:
    """Record one game; a failure is a warning, and training goes on."""
    from scripts.runner.watching import record_video  # only for videos: it loads codecs and OpenCV

    try:
        path = run.folder / "videos" / f"{name}_step_{run.env_steps:012d}.mp4"
        video = record_video(agent, run.config, path, seed=run.config.seed + EVAL_SEED_OFFSET)
        run.tracker.video(f"video/{name}", path)
        print_line(console, f"video of the {name} agent, score {video.score:g}: {path}")
    except (OSError, ValueError, RuntimeError) as error:
        warnings.warn(f"no video of the {name} agent: {error}", stacklevel=2)


def _print_summary(result: TrainResult, config: TrainConfig, note: str, console: Console) -> None:
    """Print how the training ended, and its training score."""
    how = "solved" if result.solved else "stopped" if result.interrupted else "done"
    games, last = min(len(result.returns), SCORE_GAMES), result.returns[-config.stop_episodes :]
    score = "no game has ended yet"
    if result.score is not None:
        score = f"training score {result.score:.2f} (mean return of the last {games} training games)"
    if result.solved:
        score += f"; the last {len(last)} have a mean of {sum(last) / len(last):.2f}"
    print_line(console, f"{how} after {result.env_steps:,} env steps and {result.wall_seconds:.0f} s: {score}")
    if note:
        print_line(console, note)


def _print_next_steps(result: TrainResult, config: TrainConfig, resume_line: str, console: Console) -> None:
    """Print the commands that people type next; none can make the environment of a Python factory."""
    if config.env.startswith(NAMESPACE):
        return
    run = shlex.quote(str(result.folder))
    commands = {"watch": f"watch.py {run}", "evaluate": f"evaluate.py {run} --episodes 30"}
    commands = {name: f"python scripts/{command}" for name, command in commands.items()}
    if result.interrupted and resume_line:
        commands = {"go on with": resume_line, **commands}
    elif result.solved or not resume_line:
        commands["fine-tune"] = f"python scripts/train.py --from {run}"
    else:
        commands["extend"] = f"{resume_line} --total-steps {2 * config.total_steps}"
    print_line(console, "next:")
    for name, command in commands.items():
        print_line(console, f"  {name + ':':<12}{command}")


def _finish_report(run: Run, console: Console) -> None:
    """Write the report, close the tracker, and print the paths of all that the run left."""
    paths = {"run": run.folder, "videos": run.folder / "videos" if (run.folder / "videos").is_dir() else None}
    try:
        paths["report"] = write_report([run.folder], run.folder / "report.html")
        run.tracker.report(run.folder / "report.html")
    except (OSError, ValueError) as error:
        warnings.warn(f"no report: {error}", stacklevel=2)
    paths["W&B folder"] = run.tracker.finish()
    for name, path in paths.items():
        if path is not None:
            print_line(console, f"  {name:<11}{path}")
