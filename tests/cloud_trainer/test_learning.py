"""PPO and SAC on tasks whose answers are known: where the light is, and what it is worth to say so."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cloud_trainer.job import Job, read_job
from cloud_trainer.learner import Learner, NotFinite, policy_of
from cloud_trainer.ppo import LAMBDA, PPO, advantages_of, minibatches
from cloud_trainer.rollout import Experience, Observations, situation_size
from cloud_trainer.sac import SAC, Memory

pytestmark = pytest.mark.timeout(300)  # learning takes long where other work goes on

CPU = torch.device("cpu")
CAMERA = "FRONT_FACING_CAMERA"


def experience(
    rewards: list[float], first: list[int], cut: list[bool], observations: Observations | None = None
) -> Experience:
    count = len(rewards)
    return Experience(
        observations or {CAMERA: np.zeros((count, 120, 160, 1), np.uint8)},
        np.zeros((count, 3), np.float32),
        np.zeros(count, np.int64),
        np.zeros(count, np.float32),
        np.array(rewards),
        np.array(first),
        np.array(cut),
    )


def test_advantages_by_hand() -> None:
    told = experience([1.0, 2.0, 4.0, 8.0], [0, 3, 4], [False, True])
    values = np.array([0.5, 1.0, -1.0, 10.0])
    advantages, returns = advantages_of(told, values, 0.9)
    # The first episode fails after its third step: nothing comes after it.
    third = 4.0 - (-1.0)
    second = 2.0 + 0.9 * -1.0 - 1.0 + 0.9 * LAMBDA * third
    first = 1.0 + 0.9 * 1.0 - 0.5 + 0.9 * LAMBDA * second
    # The second is cut after one step: what comes is worth what it was worth there.
    other = 8.0 + 0.9 * 10.0 - 10.0
    np.testing.assert_allclose(advantages, [first, second, third, other], rtol=1e-12)
    np.testing.assert_allclose(returns, advantages + values, rtol=1e-12)


@given(st.integers(1, 400), st.sampled_from([32, 64, 128]), st.integers(0, 5))
def test_a_pass_sees_each_row_once_at_most(count: int, size: int, seed: int) -> None:
    batches = list(minibatches(count, size, np.random.default_rng(seed)))
    sizes = {len(batch) for batch in batches}
    seen = np.concatenate(batches)
    assert len(set(seen.tolist())) == len(seen) > count / 2
    assert sizes == ({size} if count >= size else {1 << (count.bit_length() - 1)})


def bandit(
    job: Job, count: int, rng: np.random.Generator
) -> tuple[Observations, NDArray[np.bool_], NDArray[np.float32]]:
    """Pictures that are bright on their left or on their right; the critic's situation says which."""
    bright = rng.random(count) < 0.5
    pictures = np.full((count, 120, 160, 1), 30, np.uint8)
    pictures[bright, :, :80], pictures[~bright, :, 80:] = 200, 200
    situations = np.zeros((count, situation_size(job)), np.float32)
    situations[:, 0] = bright
    return {CAMERA: pictures}, bright, situations


def play(
    learner: Learner,
    worth: Callable[[NDArray[np.bool_], NDArray[Any]], NDArray[np.float64]],
    rounds: int,
    seed: int = 0,
) -> dict[str, float]:
    """Single steps that end; `worth` rewards what was chosen where it was bright on the left, or not. Last figures."""
    figures: dict[str, float] = {}
    for number in range(rounds):
        rng = np.random.default_rng((seed, number))
        seen, bright, situations = bandit(learner.job, 128, rng)
        choices, logps = learner.actor(rng)(seen)
        count = len(bright)
        told = Experience(
            seen, situations, choices, logps, worth(bright, choices), np.arange(count + 1), np.zeros(count, np.bool_)
        )
        figures = learner.learn(told, rng)
    return figures


def new(values: dict[str, Any], folder: Path | None = None) -> Learner:
    job = read_job(values)
    torch.manual_seed(job.seed)
    policy = job.agent.policy()
    return SAC(job, policy, CPU, folder) if job.agent.algorithm == "sac" else PPO(job, policy, CPU)


DISCRETE: dict[str, Any] = {"agent": {"actions": [[-10, 1], [0, 1], [10, 1]]}}
RANGES = {"steering_angle": [-30, 30], "speed": [1, 2]}


def right_row(bright: NDArray[np.bool_], choices: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(choices == np.where(bright, 2, 0), np.float64)


def near(bright: NDArray[np.bool_], choices: NDArray[Any]) -> NDArray[np.float64]:
    aim = np.where(bright[:, None], [0.8, -0.8], [-0.8, 0.8])
    return -np.asarray(np.square(choices - aim).sum(axis=1), np.float64)


@pytest.mark.parametrize(
    "more", [{}, {"loss_type": "mean squared error"}, {"exploration_type": "e-greedy", "epsilon_steps": 500}]
)
def test_ppo_learns_which_row_pays(more: dict[str, Any]) -> None:
    learner = new(DISCRETE | {"hyperparameters": {"num_episodes_between_training": 5, **more}})
    figures = play(learner, right_row, 12)
    seen, bright, _ = bandit(learner.job, 40, np.random.default_rng(9))
    assert right_row(bright, learner.greedy(seen)[0]).all()
    assert set(figures) == {"surrogate_loss", "value_loss", "kl_divergence", "entropy"}
    assert figures["entropy"] < 1.0 < np.log(3)


def test_ppo_learns_how_much_to_steer() -> None:
    learner = new({"agent": {"actions": RANGES}, "hyperparameters": {"lr": 0.001}})
    play(learner, near, 50)
    seen, bright, _ = bandit(learner.job, 40, np.random.default_rng(9))
    assert near(bright, learner.greedy(seen)[0]).min() > -0.1


def test_sac_learns_how_much_to_steer() -> None:
    learner = new(
        {"agent": {"actions": RANGES, "algorithm": "sac"}, "hyperparameters": {"lr": 0.001, "sac_alpha": 0.01}}
    )
    play(learner, near, 12)
    seen, bright, _ = bandit(learner.job, 40, np.random.default_rng(9))
    choices = learner.greedy(seen)[0]
    assert near(bright, choices).min() > -0.1
    assert np.abs(choices).max() <= 1


@pytest.mark.parametrize(
    "values", [DISCRETE, {"agent": {"actions": RANGES}}, {"agent": {"actions": RANGES, "algorithm": "sac"}}]
)
def test_who_is_saved_goes_on_with_the_same_numbers(values: dict[str, Any], tmp_path: Path) -> None:
    """Also where half an iteration was driven, and remembered, before the process died."""
    worth = right_row if values is DISCRETE else near
    straight, broken, again = (tmp_path / name for name in ("straight", "broken", "again"))
    for folder in (straight, broken, again):
        folder.mkdir()
    one = new(values, straight)
    play(one, worth, 2)
    other = new(values, broken)
    play(other, worth, 2)
    saved = other.save()
    play(one, worth, 2, seed=5)
    play(other, worth, 1, seed=5)
    heir = new(values, broken)
    heir.load(saved)
    play(heir, worth, 2, seed=5)
    for mine, theirs in zip(one.policy.parameters(), heir.policy.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert policy_of(heir.save()).keys() == one.policy.state_dict().keys()


def test_rewards_of_any_size_teach_alike() -> None:
    small, large = (new(DISCRETE) for _ in range(2))
    play(small, lambda bright, choices: 1e-3 * right_row(bright, choices), 3)
    play(large, lambda bright, choices: 1e4 * right_row(bright, choices), 3)
    for mine, theirs in zip(small.policy.parameters(), large.policy.parameters(), strict=True):
        np.testing.assert_allclose(mine.detach(), theirs.detach(), atol=5e-3)


def test_what_is_no_number_teaches_nothing_and_is_said() -> None:
    learner = new(DISCRETE)
    play(learner, right_row, 1)
    before = {name: weights.clone() for name, weights in learner.policy.state_dict().items()}
    with pytest.raises(NotFinite, match="every loss was infinite or no number"):
        play(learner, lambda bright, choices: np.full(len(bright), np.nan), 1)
    for name, weights in learner.policy.state_dict().items():
        assert torch.equal(weights, before[name])


def test_a_memory_forgets_the_oldest_and_ends_episodes(tmp_path: Path) -> None:
    memory = Memory(tmp_path, size=6)
    memory.remember(experience([1.0, 2.0, 3.0, 4.0], [0, 2, 4], [True, False]))
    memory.remember(experience([5.0, 6.0, 7.0, 8.0], [0, 4], [False]))
    assert memory.columns["rewards"].tolist() == [7.0, 8.0, 3.0, 4.0, 5.0, 6.0]
    assert memory.columns["failed"].tolist() == [False, True, False, True, False, False]
    rows, after = memory.sample(500, np.random.default_rng(0))
    assert dict(zip(rows.tolist(), after.tolist(), strict=True)) == {0: 1, 1: 1, 2: 3, 3: 3, 4: 5, 5: 0}
    found = Memory(tmp_path, size=6)
    found.load_state_dict(memory.state_dict())
    found.remember(experience([9.0], [0, 1], [True]))
    assert found.columns["rewards"].tolist() == [7.0, 8.0, 9.0, 4.0, 5.0, 6.0]


def test_a_lost_memory_starts_anew(tmp_path: Path) -> None:
    memory = Memory(tmp_path, size=6)
    memory.load_state_dict({"count": 5})
    memory.remember(experience([9.0], [0, 1], [True]))
    assert memory.count == 1
    assert memory.sample(3, np.random.default_rng(0))[0].tolist() == [0, 0, 0]


def test_stereo_and_lidar_are_looked_at() -> None:
    job = read_job({"agent": {"sensors": ["STEREO_CAMERAS", "LIDAR"]}})
    learner = PPO(job, job.agent.policy(), CPU)
    rng = np.random.default_rng(0)
    seen: Observations = {
        "STEREO_CAMERAS": rng.integers(0, 255, (8, 120, 160, 2), np.uint8),
        "LIDAR": rng.random((8, 64), np.float32),
    }
    first = learner.policy(learner.tensors(seen))
    for name in seen:
        changed = learner.policy(learner.tensors(seen | {name: seen[name][::-1].copy()}))
        assert not torch.equal(first, changed)
    assert dataclasses.asdict(job.agent)["sensors"] == ("STEREO_CAMERAS", "LIDAR")
