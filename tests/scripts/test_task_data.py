"""The data of supervised tasks: missions, frames and RAM of games, voices, and hand-written texts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from envs.make import make_env, make_envs, resolve_protocol
from networks.encoders import store
from networks.supervised import espeak
from networks.supervised.data import IGNORE, DataError, check_disjoint
from networks.supervised.mission_grammar import HELD_OUT, MissionError, draw, parse, slot_names, slots, to_english
from scripts.supervised.tasks import atari, mission_text, registry
from scripts.supervised.tasks.base import DataOptions
from tests.scripts.test_pretrain import VOICE


def test_the_games_missions_are_parsed_into_their_slots() -> None:
    gym.register_envs(pytest.importorskip("minigrid"))
    for name in ("GoToLocal", "PickupLoc", "PutNextLocal", "GoToSeq", "SynthSeq"):
        env = gym.make(f"BabyAI-{name}-v0").unwrapped
        for seed in range(15):
            text = env.reset(seed=seed)[0]["mission"]
            mission = parse(text)
            assert to_english(mission) == text
            values = slots(mission)
            instr = env.instrs  # type: ignore[attr-defined]
            expected = clauses_of(instr)
            assert [clause.verb for clause in mission.clauses] == [verb for verb, *_ in expected]
            for clause, (_, color, kind, place) in zip(mission.clauses, expected, strict=True):
                assert (clause.thing.color, clause.thing.type, clause.thing.place) == (color, kind, place)
            joint = {"BeforeInstr": "then", "AfterInstr": "after"}.get(type(instr).__name__)
            assert slot_names()["joint"][values["joint"]] == (joint or "-")
        env.close()


def clauses_of(instr: Any) -> list[tuple[Any, ...]]:
    """Verb, colour, type and place of each clause, from the game's own instruction."""
    name = type(instr).__name__
    if name in ("AndInstr", "BeforeInstr", "AfterInstr"):
        return [*clauses_of(instr.instr_a), *clauses_of(instr.instr_b)]
    verb = {"GoToInstr": "go to", "PickupInstr": "pick up", "OpenInstr": "open", "PutNextInstr": "put"}[name]
    about = instr.desc_move if name == "PutNextInstr" else instr.desc
    return [(verb, about.color, about.type, about.loc)]


def test_held_out_pairs_are_in_no_training_example() -> None:
    collected = mission_text.MissionSlots().collect(DataOptions(400))
    check_disjoint(collected.splits)
    for part in collected.splits:
        assert not any(parse(text).held_out for text in part.group)
    assert all(parse(text).held_out for text in collected.extra["unseen pairs"].group)
    for color, kind in HELD_OUT:  # each word is trained on, in other pairs
        texts = " ".join(collected.splits.train.group)
        assert color in texts
        assert kind in texts


def test_texts_that_are_not_missions_are_refused() -> None:
    for text in ("", "dance", "go to the pink ball", "put the ball", "go to a ball and go to a key and go to a box"):
        with pytest.raises(MissionError):
            parse(text)
    rng = np.random.default_rng(0)
    for _ in range(300):
        mission = draw(rng)
        assert parse(to_english(mission)) == mission


def test_the_recorder_keeps_the_ram_of_the_step_before() -> None:
    env = atari.RAMRecorder(atari.make_atari("ALE/Pong-v5", 42))
    env.reset(seed=1)
    assert np.array_equal(env.before, env.now)
    changed = False
    for _ in range(30):
        now = env.now
        env.step(2)
        assert np.array_equal(env.before, now)
        changed = changed or not np.array_equal(env.now, now)
    assert changed


def test_task_and_agents_see_the_same_frames() -> None:
    """The data set and the vector environment give an encoder the same arrays."""
    # no-op starts are drawn differently
    protocol = replace(resolve_protocol("ALE/Pong-v5", "auto", None), noop_max=0)
    env = make_env("ALE/Pong-v5", protocol)
    rng = np.random.default_rng(5)
    frames, _, ram, games, _ = atari.random_play(atari.RAMRecorder(env), 10, rng, atari.frame_and_ram)
    rng = np.random.default_rng(5)
    vector = make_envs("ALE/Pong-v5", 1, protocol)
    obs, _ = vector.reset(seed=[int(rng.integers(2**31))])
    seen, action, left = [], 0, 0
    for step in range(1, 10 * atari.EVERY + 1):
        if not left:
            action, left = int(rng.integers(vector.single_action_space.n)), int(rng.integers(1, 9))
        obs, *_ = vector.step(np.array([action]))
        left -= 1
        if step % atari.EVERY == 0:
            seen.append(obs[0].copy())
    assert np.array_equal(frames, np.stack(seen))
    assert (games == 0).all()
    encoder = store.build("nature", env.observation_space)
    assert torch.equal(encoder(torch.from_numpy(frames)), encoder(torch.from_numpy(np.stack(seen))))
    target = atari.ram_bins("ALE/Pong-v5", ram)
    motion = atari.AtariMotion()
    motion.env = "ALE/Pong-v5"
    both = motion.targets(ram[:-1], ram[1:])
    assert set(both) == set(motion.labels)
    assert np.array_equal(both["player_y_before"][1:], both["player_y"][:-1])
    assert np.array_equal(both["player_y"], target["player_y"][1:])
    hidden = (ram[:, 49] == 0) | (ram[:, 54] == 0)
    assert ((target["ball_x"] == IGNORE) == hidden).all()
    assert (target["player_y"] == ram[:, 51] // 4).all()
    vector.close()


@pytest.mark.skipif(not VOICE, reason="no espeak-ng is installed")
def test_test_voices_are_in_no_other_split() -> None:
    for name in ("speech-commands", "speech-to-text"):
        collected = registry.make_task(name).collect(DataOptions(60))
        check_disjoint(collected.splits)
        assert collected.splits.train.x.dtype == np.int16
        assert set(collected.splits.test.group) <= set(espeak.TEST_VOICES)
        behind = np.flatnonzero(collected.splits.train.x[0])[-1] + 1
        assert (collected.splits.train.x[0, :behind] != 0).all()  # 0 marks padding


def test_handwritten_texts_are_missions_and_a_test_set_of_their_own() -> None:
    lines = [line.split("\t") for line in mission_text.HANDWRITTEN.read_text(encoding="utf-8").splitlines()]
    assert [language for language, *_ in lines] == ["zh"] * 50 + ["fr"] * 50
    assert len({text for _, text, _ in lines}) == 100
    for _, _, mission in lines:
        assert to_english(parse(mission)).replace(",", "") == mission.replace(",", "")
    for name in ("translate-zh-en", "translate-fr-en"):
        collected = registry.make_task(name).collect(DataOptions(60))
        assert len(collected.extra["hand-written"]) == 50
    assert "hand-written" not in registry.make_task("translate-en-fr").collect(DataOptions(60)).extra


def test_more_missions_than_there_are_is_an_error() -> None:
    with pytest.raises(DataError, match="fewer than 50 distinct missions; lower --examples"):
        mission_text.draw_distinct(np.random.default_rng(0), 50, lambda mission: len(mission.clauses) == 0)
