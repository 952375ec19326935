import json
import tracemalloc
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest

from envs.action_replays import EpisodeRecord, RecordEpisodes, load_replays, previous_episodes, resimulate, verify
from envs.ale import AtariGame
from envs.errors import ReplayError
from envs.make import make_env, make_envs
from envs.protocols import CLASSIC, NATIVE, GameSpec
from envs.toy import CountingEnv
from tests.envs.helpers import edited, episodes, lines_of, short, write

PONG, YARS, DUNK = "ALE/Pong-v5", "ALE/YarsRevenge-v5", "ALE/DoubleDunk-v5"


def counting(num_envs: int) -> RecordEpisodes:
    envs = gym.vector.SyncVectorEnv([CountingEnv] * num_envs)
    return RecordEpisodes(envs, GameSpec("joypad/Counting-v0", {}, NATIVE, "toy"))


class TestRecorder:
    def test_episodes_of_the_counting_environment_are_recorded_exactly(self):
        """Episodes last 3, 5, 2 steps in turn and pay 1, 2, 3 ...; every second one is truncated."""
        envs, records = counting(2), []
        obs, _ = envs.reset(seed=7)
        acted: dict[int, list[int]] = {0: [], 1: []}
        expected: list[list[int]] = []
        for step in range(60):
            actions = np.array([step % 2, (step // 2) % 2])
            before, (obs, *_, info) = obs, envs.step(actions)
            for env in range(2):
                if obs[env, 1] == 0:
                    continue  # the dead row
                acted[env] = [*acted[env], int(actions[env])] if before[env, 1] else [int(actions[env])]
            assert ("episodes" in info) == bool(info.get("episodes"))
            for record in info.get("episodes", []):
                records.append(record)
                expected.append(acted[record.env])
        assert [record.actions.tolist() for record in records] == expected
        second_env = [record for record in records if record.env == 1]
        assert [record.ordinal for record in second_env] == list(range(len(second_env)))
        assert [record.length for record in second_env[:4]] == [3, 5, 2, 3]
        assert [record.episode_return for record in second_env[:4]] == [6, 15, 3, 6]
        assert [record.truncated for record in second_env[:4]] == [False, True, False, True]
        assert [record.terminated for record in second_env[:4]] == [True, False, True, False]
        assert {record.seed for record in second_env} == {8}

    def test_reset_drops_unfinished_episodes_and_restarts_the_count(self):
        envs = counting(1)
        for seed in (3, [9], np.array([4])):
            envs.reset(seed=seed)
            for _ in range(5):  # a complete episode, the dead row, and the first step of the next episode
                *_, info = envs.step(np.array([1]))
                for record in info.get("episodes", []):
                    assert (record.ordinal, record.length, record.seed) == (0, 3, np.ravel(seed)[0])

    def test_long_and_short_episodes_in_parallel(self):
        """The action buffer grows for long episodes and drops short ones."""
        thunks = [lambda: CountingEnv((3000,)), lambda: CountingEnv((2,))]
        envs = RecordEpisodes(gym.vector.SyncVectorEnv(thunks), GameSpec("toy", {}, NATIVE, "toy"))
        envs.reset(seed=0)
        plan = np.random.default_rng(0).integers(2, size=(9100, 2))
        records, rows = [], len(envs._actions)
        for number, actions in enumerate(plan):
            *_, info = envs.step(actions)
            records += [(number, record) for record in info.get("episodes", [])]
        for number, record in records:
            column = plan[number + 1 - record.length : number + 1, record.env]
            np.testing.assert_array_equal(record.actions, column)
            assert len(record.frame_hashes) == (record.length - 1) // 32
        assert [record.length for _, record in records if record.env == 0] == [3000] * 3
        assert rows < len(envs._actions) <= 8 * rows

    def test_episodes_after_an_unseeded_reset_can_be_replayed(self):
        envs = make_envs("CartPole-v1", 2)
        envs.reset()
        records = []
        while len(records) < 3:
            *_, info = envs.step(np.array([0, 1]))
            records += info.get("episodes", [])
        assert records[0].seed != records[1].seed
        for index, record in enumerate(records):
            verify(record, previous_episodes(records, index), make_env)

    def test_options_are_refused(self):
        with pytest.raises(ValueError, match="takes no options"):
            counting(1).reset(options={"low": 1})

    def test_hands_observations_on_without_a_copy_and_keeps_actions_only(self):

        class Still(gym.vector.VectorEnv):
            num_envs = 64
            metadata = {"autoreset_mode": gym.vector.AutoresetMode.NEXT_STEP}  # noqa: RUF012
            single_observation_space = gym.spaces.Box(0, 255, (4, 84, 84), np.uint8)
            single_action_space = gym.spaces.Discrete(6)
            obs, none, no = np.zeros((64, 4, 84, 84), np.uint8), np.zeros(64, np.int32), np.zeros(64, bool)

            def reset(self, **_):
                return self.obs, {}

            def step(self, actions):
                return self.obs, self.none, self.no, self.no, {}

        envs = RecordEpisodes(Still(), GameSpec("ALE/Pong-v5", {}, CLASSIC, "atari"))
        envs.reset(seed=0)
        actions = np.zeros(64, np.int64)
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        assert all(envs.step(actions)[0] is Still.obs for _ in range(1000))
        kept = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        assert kept < 1000 * 2 * actions.nbytes  # a frame of one environment alone has 7,056 bytes


@pytest.mark.parametrize(
    ("env_id", "protocol", "count"),
    [
        (PONG, "classic", 4),
        (PONG, "machado", 4),
        (YARS, "classic", 4),
        (DUNK, "machado", 4),
        ("MinAtar/Breakout-v1", "auto", 12),
        ("MinAtar/SpaceInvaders-v0", "auto", 8),
        ("CartPole-v1", "auto", 12),
        ("MiniGrid-DoorKey-5x5-v0", "auto", 4),
    ],
)
class TestRoundTrip:
    def test_the_last_episode_can_be_replayed_from_the_file(self, env_id, protocol, count, tmp_path):
        records = load_replays(write(tmp_path / "train.jsonl", episodes(env_id, count, protocol)))
        last = max(range(len(records)), key=lambda index: records[index].ordinal)
        previous = previous_episodes(records, last)
        assert len(previous) == records[last].ordinal >= 1
        steps = list(resimulate(records[last], previous, make_env, render_mode=None))
        assert len(steps) == records[last].length + 1
        assert steps[-1].score == records[last].episode_return
        assert steps[-1].terminated == records[last].terminated
        assert [int(step.action) for step in steps[1:]] == records[last].actions.tolist()

    def test_an_episode_depends_on_the_previous_ones_except_in_pong(self, env_id, protocol, count):
        """Pong's games are independent of each other, even with sticky actions; the other environments keep state."""
        records = episodes(env_id, count, protocol)
        last = max(range(len(records)), key=lambda index: records[index].ordinal)
        if env_id == PONG:
            verify(records[last], (), make_env)
        else:
            with pytest.raises(ReplayError, match=r"frame \d+ differs|depends on the|the score is|the game"):
                verify(records[last], (), make_env)


class TestFile:
    def test_round_trip_preserves_all_fields(self):
        record = episodes(PONG, 2)[0]
        text = record.to_json(kind="train", episode=17, env_steps=12345, weights_sha256="ab" * 32)
        back = EpisodeRecord.from_json(text)
        assert back.extras == {"kind": "train", "episode": 17, "env_steps": 12345, "weights_sha256": "ab" * 32}
        assert replace(back, extras={}).to_json() == record.to_json()
        assert back.actions.dtype == record.actions.dtype == np.uint8
        assert json.loads(text)["format"] == 1

    def test_box_actions_are_saved_exactly(self):
        actions = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
        record = replace(episodes("CartPole-v1", 12)[0], actions=actions, length=40, frame_hashes=(1,))
        back = EpisodeRecord.from_json(record.to_json())
        assert back.actions.dtype == np.float32
        np.testing.assert_array_equal(back.actions, actions)

    def test_a_long_game_takes_a_few_kilobytes(self):
        actions = np.random.default_rng(0).integers(6, size=3000).astype(np.uint8)
        hashes = tuple(np.random.default_rng(0).integers(2**32, size=93).tolist())
        record = replace(episodes(PONG, 2)[0], actions=actions, length=3000, frame_hashes=hashes)
        assert len(record.to_json()) < 4000

    @pytest.mark.parametrize(
        ("corrupt", "message"),
        [
            (lambda text: text[: len(text) // 2], "line 2: the action replay is incomplete"),
            (lambda text: "hello", "line 2: .* not an action replay"),
            (lambda text: "[1, 2]", "line 2: .* not an action replay"),
            (lambda text: text.replace('"format":1', '"format":2'), "line 2: .* has format 2"),
            (lambda text: text.replace('"ordinal":0', '"ordinal":1'), "line 2: .* digest differs"),
            (lambda text: text.replace('"terminated":false', '"terminated":true'), "line 2: .* digest differs"),
        ],
    )
    def test_the_error_has_the_number_of_the_invalid_line(self, corrupt, message, tmp_path):
        path = write(tmp_path / "train.jsonl", episodes(PONG, 2)[:2])
        first, second = path.read_text().splitlines()
        assert corrupt(second) != second
        path.write_text(f"{first}\n{corrupt(second)}\n")
        with pytest.raises(ReplayError, match=message) as caught:
            load_replays(path)
        assert "\n" not in str(caught.value)

    def test_missing_empty_and_binary_files(self, tmp_path):
        with pytest.raises(ReplayError, match="No such file"):
            load_replays(tmp_path / "none.jsonl")
        (tmp_path / "empty.jsonl").touch()
        with pytest.raises(ReplayError, match="is empty"):
            load_replays(tmp_path / "empty.jsonl")
        (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00\x93")
        with pytest.raises(ReplayError, match="not text"):
            load_replays(tmp_path / "binary.jsonl")

    def test_the_digest_detects_a_change_of_any_field(self, tmp_path):
        path = write(tmp_path / "train.jsonl", episodes(PONG, 2)[:1])
        (line,) = lines_of(path)
        for key in set(line) - {"digest", "format"}:
            path.write_text(json.dumps(line | {key: "forged"}) + "\n")
            with pytest.raises(ReplayError, match="digest differs"):
                load_replays(path)


class TestForgeries:
    """Records with a valid digest that differ from the game are detected by playing them."""

    @pytest.fixture(scope="class")
    def record(self) -> EpisodeRecord:
        return episodes(PONG, 2)[0]

    def test_the_original_is_accepted(self, record):
        verify(record, (), make_env)

    @pytest.mark.parametrize("step", [0, 52])
    def test_edited_action(self, record, step):
        actions = record.actions.copy()
        actions[step : step + 12] = np.where(actions[step : step + 12] == 2, 3, 2)
        with pytest.raises(ReplayError, match=r"frame \d+ differs"):
            verify(edited(record, actions=actions), (), make_env)

    def test_impossible_action(self, record):
        actions = record.actions.copy()
        actions[5] = 200
        with pytest.raises(ReplayError, match="action of step 6"):
            verify(edited(record, actions=actions), (), make_env)

    def test_edited_score(self, record):
        with pytest.raises(ReplayError, match="the score is"):
            verify(edited(record, episode_return=21.0), (), make_env)

    def test_edited_frame_hash(self, record):
        hashes = (record.frame_hashes[0], record.frame_hashes[1] ^ 1, *record.frame_hashes[2:])
        with pytest.raises(ReplayError, match="frame 64 differs"):
            verify(edited(record, frame_hashes=hashes), (), make_env)

    def test_edited_seed_and_start(self, record):
        with pytest.raises(ReplayError, match="frame 32 differs"):
            verify(edited(record, noop_frames=record.noop_frames + 7), (), make_env)
        sticky = episodes(PONG, 4, "machado")[0]
        with pytest.raises(ReplayError, match="frame 32 differs"):
            verify(edited(sticky, seed=sticky.seed + 1), (), make_env)

    def test_wrong_length(self, record):
        cut = {"length": 64, "actions": record.actions[:64], "frame_hashes": record.frame_hashes[:1]}
        with pytest.raises(ReplayError, match="goes on after step 64"):
            verify(edited(record, **cut), (), make_env)
        longer = {"length": record.length + 1, "actions": np.append(record.actions, np.uint8(0))}
        longer["frame_hashes"] = (*record.frame_hashes, 5)[: record.length // 32]
        with pytest.raises(ReplayError, match=f"ends at step {record.length}"):
            verify(edited(record, **longer), (), make_env)

    def test_terminated_instead_of_truncated(self, record):
        with pytest.raises(ReplayError, match="the game is truncated, the recorded game was terminated"):
            verify(edited(record, terminated=True, truncated=False), (), make_env)

    def test_inconsistent_lengths(self, record):
        with pytest.raises(ReplayError, match=r"length of 99 steps but \d+ actions"):
            edited(record, length=99)

    def test_unknown_environment_and_protocol(self, record):
        with pytest.raises(ReplayError, match="ALE/Pang-v5 cannot be made here"):
            verify(edited(record, env_id="ALE/Pang-v5"), (), make_env)
        with pytest.raises(ReplayError, match="cannot be made here"):
            verify(edited(record, protocol=record.protocol | {"gravity": 1}), (), make_env)


def test_previous_episodes_belong_to_the_same_session():
    """Repeated evaluations with one seed leave several episodes with equal seed, environment and ordinal."""
    once, again = episodes("CartPole-v1", 6), episodes("CartPole-v1", 6)
    marked = [replace(record, extras={"session": 1}) for record in again]
    records = [*once, *marked]
    for index in range(len(once), len(records)):
        previous = previous_episodes(records, index)
        assert [record.ordinal for record in previous] == list(range(records[index].ordinal))
        assert all(record.extras == {"session": 1} and record.env == records[index].env for record in previous)


def test_first_step_yields_the_environment():
    record = episodes(PONG, 2)[0]
    step = next(resimulate(record, (), make_env))
    assert isinstance(step.env.unwrapped, AtariGame)
    assert (step.step, step.action, step.score) == (0, None, 0.0)
    assert step.env.unwrapped.protocol == short(PONG)
