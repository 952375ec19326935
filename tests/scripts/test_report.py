"""Test the report page: contents, refusals, and escaping of everything that comes from a run."""

from __future__ import annotations

import base64
import json
import re
import runpy
import subprocess
import sys
import time
import warnings
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from networks import files
from scripts.report.charts import x_values
from scripts.report.comparison import compare_groups
from scripts.report.formats import si
from scripts.report.page import write_report
from scripts.report.run_data import Group, ReportError, read_run

ROOT = Path(__file__).resolve().parents[2]
PONG = {"env_id": "ALE/Pong-v5", "fingerprint": "3fa92b01cc7d", "family": "atari", "env_kwargs": {},
        "protocol": {"name": "classic", "repeat_action_probability": 0.0, "noop_max": 30}}  # fmt: skip
STICKY = {**PONG, "fingerprint": "77e0aa11bb22",
          "protocol": {"name": "machado", "repeat_action_probability": 0.25, "noop_max": 30}}  # fmt: skip


def write_run(
    folder: Path, scores: list[float], algo: str = "ppo", seed: int = 0, card: dict[str, Any] | None = None, **meta: Any
) -> Path:
    """Write a run folder with one game per 1,000 env steps and 2 seconds."""
    card = card or PONG
    folder.mkdir(parents=True)
    config = {
        "algo": algo, "env_id": card["env_id"], "seed": seed, "config": {"seed": seed, "gamma": 0.99}, "card": card,
        "versions": {"torch": "2.13.0"}, "git": {"commit": "c0ffee" * 7, "dirty": False},
        "command": f"python scripts/train.py {algo} --seed {seed}", "machine": {"cores": 2}, **meta,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    lines = [
        {"env_steps": 1000 * n, "wall_seconds": 2.0 * n, "episode/return": score, "episode/length": 1000}
        for n, score in enumerate(scores, 1)
    ]
    shares = {"time/env_share": 0.3, "time/act_share": 0.2, "time/learn_share": 0.45, "time/log_share": 0.05}
    lines.append({"env_steps": 1000 * len(scores), "wall_seconds": 2.0 * len(scores), "train/loss": 0.5, **shares})
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return folder


def video(run: Path, name: str, data: bytes) -> Path:
    (run / "videos").mkdir(exist_ok=True)
    (run / "videos" / name).write_bytes(data)
    return run / "videos" / name


def text_of(page: str) -> str:
    """Return the visible text of a page, with single spaces."""
    shown = re.sub(r"<style.*?</style>|<svg.*?</svg>", "", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", shown).split())


def sides(tmp_path: Path, first: list[float], second: list[float]) -> list[Path]:
    """Write one run of ppo or dqn for each constant return."""
    runs = []
    for algo, finals in (("ppo", first), ("dqn", second)):
        runs += [write_run(tmp_path / f"{algo}{s}", [final] * 20, algo, s) for s, final in enumerate(finals)]
    return runs


class TagCollector(HTMLParser):
    """Collect tags; fail if they are closed out of order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_single_run_shows_its_numbers(tmp_path: Path) -> None:
    run = write_run(tmp_path / "ppo__pong", [-21.0] * 50 + [14.6] * 100)
    page = write_report([run], tmp_path / "out" / "report.html").read_text()
    text = text_of(page)
    assert "ppo on ALE/Pong-v5" in text
    assert "14.6 training score: mean return of the last 100 training games" in text
    assert "100% human-normalised score" in text
    assert "150k env steps" in text
    assert "5m 00s wall-clock" in text
    assert "500 env steps a second" in text
    assert "needs 2 seeds or more" in text
    assert "3fa92b01cc7d" in text
    assert "env 30%" in text
    assert "learn 45%" in text
    assert "python scripts/train.py ppo --seed 0" in text
    assert "commit c0ffeec0ffee" in text
    assert page.count("<svg") == 2
    assert "Which is better" not in text


def played(score: Any, when: str = "2026-01-02 10:20:30.123+00:00", **more: Any) -> str:
    extras = {"kind": "eval", "env_steps": 5_000, "weights_sha256": "abc", "evaluated": when, **more}
    return json.dumps({"episode_return": score, "extras": extras})


def test_every_evaluation_after_the_training_is_on_the_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "ppo__pong", [-21.0] * 5)
    (run / "replays").mkdir()
    lines = [
        *(played(score) for score in (10.0, 12.0)),
        "not JSON", '{"episode_return": 3}', "[]", played("high"), played(float("nan")),
        *(played(score, "2026-01-03 10:20:30.123+00:00") for score in (20.0, 20.0, 21.0)),
        *(played(score, "2026-01-04 10:20:30.123+00:00", changes="mission channel zh") for score in (1.0, 2.0)),
        '{"episode_return": 5, "extr',
    ]  # fmt: skip
    (run / "replays" / "eval.jsonl").write_text("\n".join(lines))
    text = text_of(write_report([run], tmp_path / "r.html").read_text())
    assert "20.33 evaluation score: mean return of 3 games after training" in text
    assert "5,000 11.00 1.00 2 2026-01-02 10:20 –" in text
    assert "5,000 20.33 0.47 3 2026-01-03 10:20 –" in text
    assert "5,000 1.50 0.50 2 2026-01-04 10:20 mission channel zh" in text
    assert "-21 training score: mean return of the last 5 training games" in text


def test_evaluations_of_older_runs_are_on_the_page(tmp_path: Path) -> None:
    """Their games have no date: those of the same weights are one evaluation, in which each game counts once."""
    run = write_run(tmp_path / "ppo__pong", [-21.0] * 5)
    (run / "replays").mkdir()
    old = {"kind": "eval", "env_steps": 5_000, "weights_sha256": "abc"}
    again = {"ordinal": 0, "frame_hashes": [], "extras": old}
    lines = [json.dumps({"episode_return": score, "seed": int(score), **again}) for score in (1.0, 3.0, 1.0)]
    (run / "replays" / "eval.jsonl").write_text("\n".join(lines) + "\n")
    assert "5,000 2.00 1.00 2 – –" in text_of(write_report([run], tmp_path / "r.html").read_text())


@pytest.mark.parametrize(("seeds", "shown"), [(1, False), (2, False), (3, True)])
def test_no_probability_below_three_seeds_a_side(seeds: int, shown: bool, tmp_path: Path) -> None:
    runs = sides(tmp_path, [10, 11, 12], [1, 2, 3][:seeds])
    text = text_of(write_report(runs, tmp_path / "r.html").read_text())
    assert ("100% 100% to 100%" in text) == shown
    assert ("needs 3 seeds or more a side – cannot tell" in text) != shown


def test_the_page_is_well_formed_and_loads_nothing(tmp_path: Path) -> None:
    runs = sides(tmp_path, [10, 11, 12], [1, 2, 3])
    video(runs[0], "a.mp4", b"film")
    page = write_report(runs, tmp_path / "r.html").read_text()
    parser = TagCollector()
    parser.feed(page)
    assert parser.open == []
    assert not {"script", "iframe", "img", "object"} & {tag for tag, _ in parser.tags}
    for tag, attributes in parser.tags:
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "data:").startswith(("data:", "#")), (tag, attributes)
    assert "default-src 'none'; style-src 'unsafe-inline'; media-src data:; img-src data:" in page
    assert "@import" not in page
    assert "url(http" not in page
    assert [attrs["name"] for tag, attrs in parser.tags if tag == "meta" and "name" in attrs] == ["viewport"]
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".tmp")]


def test_curves_end_where_the_runs_do(tmp_path: Path) -> None:
    """The drawn line, mapped back through the tick labels, ends at the smoothed final return."""
    page = write_report([write_run(tmp_path / "r", [float(n) for n in range(100)])], tmp_path / "r.html").read_text()
    svg = re.search(r"<svg.*?</svg>", page, re.DOTALL)[0]  # type: ignore[index]
    line = max(re.findall(r'<path d="(M [^"]*)"[^>]*stroke: #3b82f6', svg), key=len)
    points = np.array([[float(n) for n in re.findall(r"-?[\d.]+", step)[:2]] for step in re.split(" ?[ML] ", line)[1:]])
    assert (np.diff(points[:, 0]) > 0).all()
    assert points[-1, 1] < points[0, 1]
    ticks = {}
    for y, label in re.findall(r'<text[^>]*y="([\d.]+)"[^>]*>([\d−]+)</text>', svg):
        ticks[float(label)] = float(y)
    scale = (ticks[80.0] - ticks[0.0]) / 80.0
    assert (points[-1, 1] - points[0, 1]) / scale == pytest.approx(97.0 - 0.0, abs=1.0)  # window of 5 games


def test_curves_over_updates_if_every_run_logged_them(tmp_path: Path) -> None:
    run = write_run(tmp_path / "counted", [float(n) for n in range(100)])
    with open(run / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"env_steps": 50_000, "wall_seconds": 100.0, "time/updates": 40}) + "\n")
        file.write(json.dumps({"env_steps": 100_000, "wall_seconds": 200.0, "time/updates": 400}) + "\n")
    updates = x_values(read_run(run), read_run(run).games, "updates")
    assert updates[[24, 49, 74, 99]] == pytest.approx([20.0, 40.0, 220.0, 400.0])
    page = write_report([run], tmp_path / "a.html").read_text()
    assert page.count("<svg") == 3
    assert "Return over updates" in page
    other = write_run(tmp_path / "not", [1.0] * 20, seed=1)
    assert "Return over updates" not in write_report([run, other], tmp_path / "b.html").read_text()


def test_large_numbers_are_short() -> None:
    texts = [si(number) for number in (950, 999.6, 9_994, 999_400, 999_900, 2_500_000, 999_999_999)]
    assert texts == ["950", "1k", "9.99k", "999k", "1M", "2.5M", "1B"]


def test_groups_have_intervals_and_a_winner(tmp_path: Path) -> None:
    text = text_of(write_report(sides(tmp_path, [10, 11, 12, 13, 14], [1, 2, 3]), tmp_path / "r.html").read_text())
    assert "12.00 mean 12.00" in text
    assert "2.00 mean 2.00" in text
    assert "ppo over dqn 100% 100% to 100% ppo is better: the intervals do not overlap" in text
    assert "equally good algorithms separate completely 1 time in 28" in text  # 8 choose 5, two-sided
    assert "0, 1, 2, 3, 4" in text
    assert "The algorithm only" in text


def test_overlapping_intervals_decide_nothing(tmp_path: Path) -> None:
    text = text_of(write_report(sides(tmp_path, [1, 5, 9], [2, 6, 10]), tmp_path / "r.html").read_text())
    assert "ppo against dqn: cannot tell: the intervals overlap" in text
    assert "is better: " not in text


def test_two_seeds_a_side_never_decide(tmp_path: Path) -> None:
    text = text_of(write_report(sides(tmp_path, [10, 11], [1, 2, 3]), tmp_path / "r.html").read_text())
    assert "cannot tell: 2 and 3 runs" in text
    assert "is better: " not in text


def test_the_conclusion_mentions_unequal_budgets(tmp_path: Path) -> None:
    groups = []
    for algo, length, final in (("a", 20, 10.0), ("b", 40, 1.0)):
        made = [read_run(write_run(tmp_path / f"{algo}{s}", [final + s] * length, algo, s)) for s in range(3)]
        groups.append(Group(algo, tuple(made)))
    assert "budgets differ (20k and 40k env steps)" in compare_groups(groups[0], groups[1]).conclusion


def test_mixed_protocols_are_refused_by_setting(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "a", [1.0] * 20), write_run(tmp_path / "b", [9.0] * 20, card=STICKY)]
    with pytest.raises(ReportError, match=r"protocol.repeat_action_probability \(0.0 / 0.25\)") as caught:
        write_report(runs, tmp_path / "r.html")
    assert "noop_max" not in str(caught.value)
    assert not (tmp_path / "r.html").exists()
    page = write_report(runs, tmp_path / "r.html", allow_mixed=True).read_text()
    text = text_of(page)
    assert "their scores are not comparable" in text
    assert "Which is better" not in text
    assert "score: protocol.repeat_action_probability" in text
    assert page.count("<svg") == 4


def test_different_games_are_refused_even_with_one_fingerprint(tmp_path: Path) -> None:
    skiing = {**PONG, "env_id": "ALE/Skiing-v5"}
    runs = [write_run(tmp_path / "a", [1.0]), write_run(tmp_path / "b", [1.0], card=skiing)]
    with pytest.raises(ReportError, match=r"env_id \(ALE/Pong-v5 / ALE/Skiing-v5\)"):
        write_report(runs, tmp_path / "r.html")


def test_normalised_scores_over_two_games(tmp_path: Path) -> None:
    boxing = {**PONG, "env_id": "ALE/Boxing-v5", "fingerprint": "b0b0b0b0b0b0"}  # random 0.1, human 12.1
    runs = [write_run(tmp_path / f"p{seed}", [14.6] * 5, seed=seed) for seed in range(2)]
    runs += [write_run(tmp_path / f"b{seed}", [6.1] * 5, seed=seed, card=boxing) for seed in range(2)]
    page = write_report(runs, tmp_path / "r.html", allow_mixed=True).read_text()
    text = text_of(page)
    assert page.count('aria-label="performance profiles"') == 1
    assert "ppo · classic ALE/Pong-v5, ALE/Boxing-v5 4 0.750" in text
    assert "0.250 0.250 to 0.250 Compare rows" in text  # optimality gap: (0 + 0 + 0.5 + 0.5) / 4


def test_published_scores_of_the_same_protocol_are_listed(tmp_path: Path) -> None:
    classic = [write_run(tmp_path / f"c{seed}", [18.0] * 5, seed=seed) for seed in range(2)]
    text = text_of(write_report(classic, tmp_path / "c.html").read_text())
    assert "Published scores on ALE/Pong-v5, classic" in text
    assert "without sticky actions" in text
    dqn, ours = text.index("DQN 18.9 112% 200M Mnih et al. 2015"), text.index("ppo 18.0 110% 20k this page")
    assert dqn < ours  # the better one first
    assert "Dopamine" not in text.split("Published scores")[1]
    sticky = write_report([write_run(tmp_path / "m", [18.0] * 5, card=STICKY)], tmp_path / "m.html")
    text = text_of(sticky.read_text()).split("Published scores on ALE/Pong-v5, machado")[1]
    assert "DQN (Dopamine)" in text
    assert "Mnih" not in text


def test_small_frames_are_noted_and_other_games_have_no_published_scores(tmp_path: Path) -> None:
    small = {**PONG, "protocol": {**PONG["protocol"], "image_size": 42}}
    text = text_of(write_report([write_run(tmp_path / "s", [18.0] * 5, card=small)], tmp_path / "s.html").read_text())
    assert "These runs see frames of 42x42, the published ones of 84x84." in text
    cartpole = {**PONG, "env_id": "CartPole-v1", "protocol": {"name": "native"}}
    page = write_report([write_run(tmp_path / "n", [400.0] * 5, card=cartpole)], tmp_path / "n.html").read_text()
    assert "Published" not in page


def test_nothing_from_a_run_becomes_markup(tmp_path: Path) -> None:
    evil = "<script>alert('x')</script>\"'&"
    run = write_run(tmp_path / "<img src=x onerror=alert(1)>", [1.0] * 5, algo=evil, seed=0,
                    command=evil, machine={evil: evil}, versions={evil: evil},
                    card={**PONG, "env_id": evil, "protocol": {"name": evil}, "fingerprint": evil})  # fmt: skip
    video(run, "<b onclick='x'>.mp4", b"film")
    other = write_run(tmp_path / "other", [1.0] * 5, card=json.loads((run / "config.json").read_text())["card"])
    metrics = run / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace("time/env_share", "time/<script>_share"))
    page = write_report([run, other], tmp_path / "r.html", title=evil, video_bytes=0).read_text()
    parser = TagCollector()
    parser.feed(page)
    tags = {tag for tag, _ in parser.tags}
    assert not {"script", "img"} & tags
    assert parser.open == []
    assert not [attrs for _, attrs in parser.tags if any(name.startswith("on") for name in attrs)]
    assert "&lt;script&gt;alert(&#39;x&#39;)" in page


def test_text_that_utf8_cannot_encode_is_escaped(tmp_path: Path) -> None:
    run = write_run(tmp_path / "r", [1.0], command="train \ud800 now")
    assert r"train \ud800 now" in write_report([run], tmp_path / "r.html").read_text(encoding="utf-8")


def test_videos_are_embedded_until_the_budget_is_spent(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "a b", [1.0] * 5), write_run(tmp_path / "c", [1.0] * 5, seed=1)]
    early, late = b"early film" * 30, b"late film!" * 30
    video(runs[0], "1.mp4", early)
    video(runs[0], "2.mp4", late)
    video(runs[1], "1.mp4", b"other film" * 30)
    full = write_report(runs, tmp_path / "full.html").read_text()
    assert full.count("<video controls muted") == 3
    assert base64.b64encode(early).decode() in full
    small = write_report(runs, tmp_path / "out" / "small.html", video_bytes=850).read_text()
    assert small.count("<video") == 2  # the newest of each run
    assert base64.b64encode(late).decode() in small
    assert base64.b64encode(early).decode() not in small
    assert 'href="../a%20b/videos/1.mp4"' in small
    assert "to keep this page small" in small


def test_an_empty_video_file_is_not_played(tmp_path: Path) -> None:
    run = write_run(tmp_path / "r", [1.0] * 5)
    video(run, "half.mp4", b"")
    assert "<video" not in write_report([run], tmp_path / "r.html").read_text()


def test_the_page_names_corrupted_lines(tmp_path: Path) -> None:
    run = write_run(tmp_path / "r", [1.0] * 5)
    lines = (run / "metrics.jsonl").read_text().split("\n")
    (run / "metrics.jsonl").write_text("\n".join([lines[0], "garbage", *lines[1:], '{"half']))
    with pytest.warns(UserWarning, match="line 2"):
        assert "skipped corrupted line 2" in text_of(write_report([run], tmp_path / "r.html").read_text())


def test_a_run_without_a_finished_game_still_has_a_page(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    runs = [write_run(tmp_path / "r", []), write_run(tmp_path / "s", [3.0] * 5, "dqn")]
    text = text_of(write_report(runs, tmp_path / "r.html").read_text())
    assert "r: no game has ended yet." in text
    assert "3.00" in text
    assert not recwarn.list
    alone = text_of(write_report(runs[:1], tmp_path / "r.html").read_text())
    assert "No game has ended yet." in alone
    assert "nan" not in alone
    assert not recwarn.list


def test_repeated_runs_count_once_and_repeated_seeds_are_noted(tmp_path: Path) -> None:
    run = write_run(tmp_path / "r", [1.0] * 5)
    assert "2 runs" not in text_of(write_report([run, run], tmp_path / "r.html").read_text())
    twin = write_run(tmp_path / "twin", [1.0] * 5)
    assert "a seed occurs more than once" in text_of(write_report([run, twin], tmp_path / "r.html").read_text())


def test_a_failed_write_leaves_the_old_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, out = write_run(tmp_path / "r", [1.0] * 5), tmp_path / "r.html"
    out.write_text("old")

    def disk_full(*paths: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "replace", disk_full)
    with pytest.raises(OSError, match="No space"):
        write_report([run], out)
    assert out.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r", "r.html"]


def test_ten_runs_of_20_000_lines_take_less_than_ten_seconds(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"r{s}", list(range(20_000)), "ppo" if s < 5 else "dqn", s) for s in range(10)]
    start = time.process_time()
    write_report(runs, tmp_path / "r.html")
    assert time.process_time() - start < 10
    assert (tmp_path / "r.html").stat().st_size < 5_000_000


IMPORTED = """
import sys, scripts.report.page
print(*(name for name in ("torch", "gymnasium", "wandb", "scipy", "matplotlib") if name in sys.modules))
print(sum(name.split(".")[0] in ("agents", "envs", "networks", "scripts") for name in sys.modules))
"""


def test_the_page_imports_little() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTED], cwd=ROOT, capture_output=True, text=True, check=True)
    libraries, modules = done.stdout.split("\n")[:2]
    assert libraries == ""
    assert int(modules) < 15


SCRIPT = ROOT / "scripts" / "compare.py"


def test_the_script_writes_the_page(tmp_path: Path) -> None:
    good, out = write_run(tmp_path / "good", [1.0] * 5), tmp_path / "page.html"
    command = [sys.executable, str(SCRIPT), str(good), "--out", str(out), "--title", "My page"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert str(out) in done.stdout
    assert "<h1>My page</h1>" in out.read_text()


@pytest.mark.parametrize(
    ("second", "message"),
    [("absent", "is not a folder"), ("plain", "has no config.json"), ("empty", "has no metrics"),
     ("sticky", "protocol.repeat_action_probability (0.0 / 0.25)"), ("--out=.", "is a folder; --out")],
)  # fmt: skip
def test_the_script_refuses_bad_runs_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], second: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # the script sets its own
    write_run(tmp_path / "good", [1.0] * 5)
    write_run(tmp_path / "sticky", [1.0], card=STICKY)
    (write_run(tmp_path / "empty", []) / "metrics.jsonl").write_text("")
    (tmp_path / "plain").mkdir()
    monkeypatch.setattr(sys, "argv", ["compare.py", "good", second])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    printed = capsys.readouterr()
    assert end.value.code == 2
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert message in printed.err
    assert not (tmp_path / "report.html").exists()
