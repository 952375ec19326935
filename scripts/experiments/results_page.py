"""The page of results, docs/results/README.md, written from the JSON files beside it.

`benchmark.py results` writes the page and its charts; it trains nothing. Every number is read from a JSON file and
links to it. The same files give the same page, byte for byte.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from agents.errors import ConfigError
from agents.run.provenance import ROOT
from networks.files import write_atomically
from scripts.experiments.results_book import CHAPTERS
from scripts.report import plots
from scripts.report.published_scores import published_scores
from scripts.report.tables import print_line, wide_console

FOLDER = ROOT / "docs" / "results"
ALONE = ("lunarlander-dqn", "doorkey-ppo", "atari-100k-dqn")
"""Results of `benchmark.py learn` in the first table, without Stable-Baselines3 beside them."""
MEASURES = {
    "atari-ram": ("r2", "R2"),
    "cloning": ("accuracy", "accuracy"),
    "game-sounds": ("points_f1", "F1 of the rarer class"),
    "inverse-dynamics": ("f1", "F1"),
    "mission-slots": ("exact", "all slots right"),
    "speech-slots": ("exact", "all slots right"),
    "speech-to-text": ("wer", "word error rate (lower is better)"),
    "translate-fr-en": ("equivalent", "same meaning"),
    "translate-zh-en": ("equivalent", "same meaning"),
}
"""Supervised task -> key in its report, and name; accuracy for all others."""
TRANSFERS = ("transfer-missions", "transfer-speech", "transfer-teacher", "transfer-pong")
EXAMS = ("memory-exam", "memory-exam-repeat")


@dataclass(frozen=True, kw_only=True)
class ResultsPage:
    """Write docs/results/README.md and its charts from the JSON files of that folder."""

    folder: Annotated[Path, arg(metavar="DIR", help_behavior_hint="(default: docs/results)")] = FOLDER
    """Folder of the JSON files, the page and its charts."""

    def run(self, overrides: Sequence[str]) -> None:
        """Write the page."""
        if overrides:
            raise ConfigError("results takes no options after a --")
        if not (self.folder / "book").is_dir():
            raise ConfigError(f"{self.folder} has no folder book; `benchmark.py suite` writes it")
        page = write_page(self.folder)
        print_line(wide_console(), f"results: {page}")


def write_page(folder: Path) -> Path:
    """Write README.md and charts/*.svg from the JSON files in `folder`; return the page."""
    (folder / "charts").mkdir(exist_ok=True)
    for name, svg in charts(folder).items():
        write_atomically(folder / "charts" / f"{name}.svg", svg)
    page = folder / "README.md"
    write_atomically(page, render(folder))
    return page


def render(folder: Path) -> str:
    """Return the page, from the JSON files in `folder`."""
    sections = (overview, curves, minatar, solved, memory, speed, supervised, transfer, sensors, sources)
    return "\n".join([HEAD, *("\n".join([*section(folder), ""]) for section in sections)]).rstrip() + "\n"


HEAD = """# Results

Written by `python scripts/benchmark.py results` from the JSON files in this folder; do not edit. Every number links
to the file that it comes from. The [laboratory notebook](../notebook/README.md) has the commands, the explanations and
the failures.
"""


def overview(folder: Path) -> Iterator[str]:
    """Yield the first table: ours, Stable-Baselines3 on the same work, published."""
    yield "## Scores\n"
    yield "Mean return of the **last 100 training games / evaluation games after training**, mean over seeds.\n"
    columns = ("game", "env steps", "joypad", "Stable-Baselines3, same env steps", "better", "published")
    rows = []
    for chapter in CHAPTERS:
        path = folder / "book" / f"{chapter.name}.json"
        if not path.exists():
            continue
        numbers = read(path)
        ours, theirs = numbers["rows"]
        link = f"book/{chapter.name}.json"
        sides = (score_cell(ours, link), score_cell(theirs, link))
        game = game_cell(ours, chapter.overrides)
        rows.append([game, f"{chapter.total_steps:,}", *sides, better(numbers), published(folder, chapter.name)])
    for name in ALONE:
        for row in read(folder / f"{name}.json")["rows"]:
            steps = f"{row['config']['total_steps']:,}"
            cell = score_cell(row, f"{name}.json")
            rows.append([game_cell(row), steps, cell, "not measured", "-", published(folder, name)])
    yield from table(columns, rows)
    yield ""
    yield "Both sides play under the same protocol, each with its own tuned settings; Stable-Baselines3's come from"
    yield "rl-baselines3-zoo. *Cannot tell*: the 95 % bootstrap intervals overlap. Published scores come from other"
    yield "budgets and conditions, listed in [published.json](published.json). Details: [the book](book/README.md)."


def curves(folder: Path) -> Iterator[str]:
    """Yield the pictures of training."""
    drawn = [chapter.name for chapter in CHAPTERS if (folder / "book" / f"{chapter.name}.json").exists()]
    with_curves = [name for name in drawn if curve_file(folder, name).exists()]
    yield "## Learning curves\n"
    if with_curves:
        yield "Mean return of the last 100 training games; thin lines are seeds, thick lines their mean.\n"
        yield from (f"[![{name}](charts/{name}.svg)](book/curves/{name}.json)" for name in with_curves)
    rest = [name for name in drawn if name not in with_curves]
    if rest:
        if with_curves:
            yield ""
        yield "The book holds no learning curves of these runs, so each dot is the score of a seed: filled in training,"
        yield "hollow in evaluation. `python scripts/benchmark.py suite` records curves.\n"
        yield from (f"[![{name}](charts/{name}.svg)](book/{name}.json)" for name in rest)


def minatar(folder: Path) -> Iterator[str]:
    """Yield scores on MinAtar, a row for each game, a column for each agent and budget."""
    cells: dict[tuple[str, str], str] = {}
    for path in sorted(folder.glob("minatar-*.json")):
        for row in read(path)["rows"]:
            agent = f"{row['algorithm'].upper()}, {row['config']['total_steps']:,} steps"
            seeds = len(row["runs"])
            note = "" if seeds == 3 else f" ({seeds} {'seed' if seeds == 1 else 'seeds'})"
            cells[row["env"], agent] = score_cell(row, path.name) + note
    games, agents = sorted({game for game, _ in cells}), sorted({agent for _, agent in cells})
    yield "## MinAtar\n"
    yield "Last 100 training games / evaluation games; mean over three seeds, unless fewer are named. DQN has double,"
    yield "dueling, 3-step returns and prioritized replay.\n"
    rows = [[game, *(cells.get((game, agent), "-") for agent in agents), published(folder, game)] for game in games]
    yield from table(("game", *agents, "published"), rows)


def solved(folder: Path) -> Iterator[str]:
    """Yield the env steps until CartPole is solved."""
    yield "## Steps until CartPole is solved\n"
    yield "Solved: a mean return of 475 over the last 30 training games. Medians of three seeds on one busy core.\n"
    rows = []
    for name in ("cartpole-policy", "cartpole-pqn"):
        for row in read(folder / f"{name}.json")["rows"]:
            goal, link = row["goal"], f"{name}.json"
            rows.append([
                row["label"].upper(), f"{goal['solved']} of {len(row['runs'])}", linked(goal["env_steps"], link),
                linked(goal["wall_seconds"], link), linked(row["evaluation"], link),
            ])  # fmt: skip
    rows.sort(key=lambda row: float(row[2][1:].split("]")[0].replace(",", "")))
    yield from table(("agent", "seeds solved", "env steps", "seconds", "evaluated"), rows)


def memory(folder: Path) -> Iterator[str]:
    """Yield the memory exam."""
    yield "## Memory\n"
    yield "PPO with a GRU of 64 on tasks that need memory over a number of steps, the horizon. 0 is the best score"
    yield "without memory, 1 the optimum; one seed.\n"
    rows: dict[tuple[str, str], dict[int, str]] = {}
    for name in EXAMS:
        numbers = read(folder / f"{name}.json")
        steps = f"{numbers['settings']['total_steps']:,}"
        for paper in numbers["papers"]:
            rows.setdefault((paper["task"], steps), {})[paper["level"]] = linked(paper["score"], f"{name}.json")
    horizons = sorted({horizon for cells in rows.values() for horizon in cells})
    columns = ("task", "env steps", *(f"horizon {horizon}" for horizon in horizons))
    yield from table(columns, ([*key, *(cells.get(h, "-") for h in horizons)] for key, cells in rows.items()))


def speed(folder: Path) -> Iterator[str]:
    """Yield env steps per second beside other libraries, shares of the machine's limit, and costs of updates."""
    peers = read(folder / "peers.json")
    yield "## Speed\n"
    yield f"Training speed in env steps per second. Machine: {peers['machine']}."
    yield peers["method"]
    for group in peers["groups"]:
        names = list(dict.fromkeys(name for row in group["rows"] for name in row["rates"]))
        yield f"\n**{group['task']}**\n"
        rates = [[name, *(rate(row["rates"].get(name)) for row in group["rows"])] for name in names]
        yield from table(("library", *(row["algorithm"] for row in group["rows"])), rates)
    parts = ("ours", "stable-baselines3", "emulator alone", "network alone")
    yield "\n**Pong beside the limit of a shared machine**: emulator and network alone, one after the other\n"
    shares = []
    for result in read(folder / "speed.json")["results"]:
        cells = [linked(result["medians"][part], "speed.json") for part in parts]
        ratios = (f"{result['share_of_limit']:.0%}", f"{result['times_sb3']:.2f}")
        shares.append([result["algorithm"].upper(), *cells, *(f"[{ratio}](speed.json)" for ratio in ratios)])
    columns = ("algorithm", "joypad", "Stable-Baselines3", "emulator alone", "network alone", "of the limit", "x SB3")
    yield from table(columns, shares)
    yield "\n**Cost of an update** on Pong frames, medians; PPO: acting and learning of a whole rollout\n"
    costs = []
    for name in ("cost", "cost-ppo"):
        updates = read(folder / f"{name}.json")["updates"]
        first = next(iter(updates))
        for agent, cost in updates.items():
            milliseconds = linked(statistics.median(cost["ms"]), f"{name}.json")
            relative = f"{linked(cost['times'], f'{name}.json')} x {first}"
            costs.append([f"`{agent}`", milliseconds, f"{cost['rows']:,}", relative])
    yield from table(("update of", "ms", "rows learned from", "cost"), costs)


def supervised(folder: Path) -> Iterator[str]:
    """Yield the test scores of encoders on their supervised tasks."""
    yield "## Encoders\n"
    yield "Test scores of supervised tasks. *Untrained*: trained heads on a frozen, randomly initialised network."
    yield "*Unseen pairs*: colours with types that no training text combines. Seconds were taken on busy cores.\n"
    rows = []
    for path in sorted((folder / "encoders").glob("*.json")):
        numbers = read(path)
        if "report" not in numbers:
            continue
        config, report = numbers["config"], numbers["report"]
        key, name = MEASURES.get(config["task"], ("accuracy", "accuracy"))
        link = f"encoders/{path.name}"
        parts = (report["test"], report.get("unseen pairs", {}), *(
            report["baselines"].get(baseline, {}) for baseline in ("logistic regression", "random frozen trunk")
        ))  # fmt: skip
        cells = [linked(part.get(key), link, 3) for part in parts]
        if "played" in report:
            cells[0] += f"; success in games {linked(report['played']['success'], link, 3)}"
        rows.append([f"`{path.stem}`", config["spec"]["arch"], name, *cells, linked(report["seconds"], link)])
    columns = ("task", "network", "measure", "test", "unseen pairs", "logistic regression", "untrained", "seconds")
    yield from table(columns, rows)


def transfer(folder: Path) -> Iterator[str]:
    """Yield env steps that pretrained encoders save agents."""
    yield "## Pretrained encoders in agents\n"
    yield "Env steps until a threshold (success over 100 games, or return over 30 games), mean over seeds; a seed that"
    yield "misses it counts with its whole budget. [The notebook](../notebook/missions-and-transfer.md) has the rest."
    for name in TRANSFERS:
        link = f"encoders/{name}.json"
        numbers = read(folder / link)
        goals = list(numbers["rows"][0]["steps_to"])
        tests = list(dict.fromkeys(test for row in numbers["rows"] for test in row["judged"]))
        env, seeds = numbers["settings"]["envs"][0], len(numbers["settings"]["seeds"])
        yield f"\n[{name}]({link}): {env}, {seeds} {'seed' if seeds == 1 else 'seeds'}.\n"
        rows = []
        for row in numbers["rows"]:
            budget = row["config"]["total_steps"]
            cells = [steps_cell(row["steps_to"][goal], budget, link) for goal in goals]
            cells.append(linked(mean(row["final"]), link))
            rows.append([row["label"], *cells, *(linked(mean(row["judged"].get(test, ())), link) for test in tests)])
        measured = (
            *(f"steps to {goal}" for goal in goals),
            "end of training",
            *(f"evaluated, {test}" for test in tests),
        )
        yield from table(("arm", *measured), rows)


def sensors(folder: Path) -> Iterator[str]:
    """Yield mean returns under missing observations."""
    link = "encoders/robustness-cartpole.json"
    numbers = read(folder / link)
    levels = [point["level"] for point in next(iter(numbers["curves"].values()))]
    yield "## Damaged sensors\n"
    yield f"PPO on {numbers['env']}, trained on whole observations: mean return over {len(numbers['runs'])} seeds when"
    yield "each number of the observation is missing with a probability (columns), by the repair that replaces it.\n"
    rows = ([name, *(linked(point["mean"], link) for point in points)] for name, points in numbers["curves"].items())
    yield from table(("repair", *(f"{level:g}" for level in levels)), rows)


def sources(folder: Path) -> Iterator[str]:
    """Yield commit, date and machine of each file that an experiment wrote."""
    yield "## Files\n"
    yield "Each file holds the command that wrote it.\n"
    rows = []
    for path in (*sorted(folder.glob("*.json")), *sorted((folder / "encoders").glob("*.json"))):
        numbers = read(path)
        origin = numbers if "command" in numbers else numbers.get("config", {})
        if "command" not in origin:
            continue
        git, machine = origin["git"], origin["machine"]
        commit = f"`{git['commit'][:7]}`{' and changes' if git['dirty'] else ''}"
        place = f"{machine['cores']} cores of {machine['processor'].replace('(R)', '').removesuffix(' Processor')}"
        rows.append([f"[{path.stem}]({path.relative_to(folder)})", commit, origin["created"][:10], place])
    yield from table(("file", "commit", "date", "machine"), rows)


def charts(folder: Path) -> dict[str, str]:
    """Return an SVG for each chapter of the book: learning curves where it has them, else the scores of the seeds."""
    drawn = {}
    for chapter in CHAPTERS:
        path, curve = folder / "book" / f"{chapter.name}.json", curve_file(folder, chapter.name)
        if curve.exists():
            lines: dict[str, list[tuple[list[float], list[float]]]] = {}
            for run in read(curve)["curves"]:
                lines.setdefault(side_name(run["label"]), []).append((run["env_steps"], run["scores"]))
            drawn[chapter.name] = plots.learning_curves_svg(lines, chapter.name)
        elif path.exists():
            scores = {
                side_name(row["label"]): [(run["score"], run["evaluation"]["return_mean"]) for run in row["runs"]]
                for row in read(path)["rows"]
            }
            drawn[chapter.name] = plots.seed_scores_svg(scores, chapter.name)
    return drawn


def curve_file(folder: Path, chapter: str) -> Path:
    """Return the file of a chapter's learning curves."""
    return folder / "book" / "curves" / f"{chapter}.json"


def side_name(label: str) -> str:
    """Return "joypad ppo" for ppo, "SB3 ppo" for sb3-ppo."""
    return f"SB3 {label.removeprefix('sb3-')}" if label.startswith("sb3-") else f"joypad {label}"


def read(path: Path) -> dict[str, Any]:
    """Read a JSON file; raise ConfigError where it is missing or damaged."""
    try:
        values: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    return values


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    yield "| " + " | ".join(columns) + " |"
    yield "|" + "---|" * len(columns)
    yield from ("| " + " | ".join(row) + " |" for row in rows)


def short(value: float, decimals: int = 2) -> str:
    """Return a number with as many decimals as a reader needs: none from 100 on, one from 10 on."""
    size = abs(value)
    return f"{value:,.{0 if size >= 100 else 1 if size >= 10 else decimals}f}"


def linked(value: float | None, link: str, decimals: int = 2) -> str:
    """Return a number that links to its file; "-" for None."""
    return "-" if value is None else f"[{short(value, decimals)}]({link})"


def score_cell(row: dict[str, Any], link: str) -> str:
    """Return training score / evaluation of one side."""
    scores = [run["score"] for run in row["runs"]]
    return f"{linked(mean(scores), link)} / {linked(row['evaluation'], link)}"


def steps_cell(steps: Sequence[float | None], budget: int, link: str) -> str:
    """Return the mean steps to a threshold over seeds, and how many seeds reached it where some did not."""
    reached = [step for step in steps if step is not None]
    if not reached:
        return f"[never]({link})"
    note = "" if len(reached) == len(steps) else f" ({len(reached)} of {len(steps)})"
    return linked(statistics.fmean([budget if step is None else step for step in steps]), link) + note


def mean(values: Sequence[float]) -> float | None:
    """Return the mean; None of nothing."""
    return statistics.fmean(values) if values else None


def game_cell(row: dict[str, Any], overrides: Sequence[str] = ()) -> str:
    """Return algorithm and game, such as "PPO on ALE/Pong-v5 at 42x42"."""
    size = row["config"].get("image_size")
    return f"{row['algorithm'].upper()} on {row['env']}" + (f" at {size}x{size}" if size and overrides else "")


def better(numbers: dict[str, Any]) -> str:
    """Return the better side of a chapter; "cannot tell" where intervals overlap."""
    label, decided, _ = numbers["verdict"].partition(" is better")
    if not decided:
        return "cannot tell"
    return "Stable-Baselines3" if label.startswith("sb3-") else "joypad"


def rate(value: float | list[float] | None) -> str:
    """Return a rate, or a range of rates, that links to peers.json."""
    if value is None:
        return "-"
    words = f"{value:,}" if not isinstance(value, list) else " to ".join(f"{end:,}" for end in value)
    return f"[{words}](peers.json)"


def published(folder: Path, name: str) -> str:
    """Return the published score beside a result, with budget and source."""
    for entry in read(folder / "published.json")["scores"]:
        if entry["for"] != name:
            continue
        score, steps = entry.get("score"), entry.get("env_steps")
        if score is None:
            (known,) = (
                known for known in published_scores(entry["game"], entry["protocol"]) if known.agent == entry["agent"]
            )
            score, steps = known.score, round(float(known.frames.removesuffix("M")) * 250_000)  # four frames a step
        return f"{linked(score, 'published.json')} after {steps:,} ([{entry['agent']}]({entry['url']}))"
    return "-"
