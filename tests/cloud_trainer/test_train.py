import json
import multiprocessing
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cloud_trainer.__main__ import main
from cloud_trainer.job import Job, JobError, read_job
from cloud_trainer.learner import policy_of
from cloud_trainer.publish import show
from cloud_trainer.reward import RewardError
from cloud_trainer.rollout import Circuit, situation_size
from cloud_trainer.store import ARTEFACTS, DATABASE, Artefacts, Iteration, Jobs, Status
from cloud_trainer.train import News, begin, job_of, line_up, plan, train
from inference.package import PackageError, unpack
from inference.policy import OpenVinoPolicy
from sim_stub.rules import Rules

pytestmark = pytest.mark.timeout(300)  # learning takes long where other work goes on

TINY: dict[str, Any] = {
    "hyperparameters": {"num_episodes_between_training": 5},
    "evaluation": {"trials": 2, "laps": 1},
    "stop": {"steps": 400, "minutes": 0, "clean_evaluations": 0},
}


def silent(news: News) -> None:
    pass


def tiny(folder: Path, **more: Any) -> Job:
    job = read_job(TINY | more)
    begin(folder, job)
    return job


def history(folder: Path) -> list[Iteration]:
    with Jobs(folder / DATABASE) as jobs:
        return jobs.iterations(1)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Of the last iteration's policy."""
    return policy_of(Artefacts(folder / ARTEFACTS).get(history(folder)[-1].checkpoint))


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_tiny_training_leaves_all_that_people_and_tools_look_for(tmp_path: Path) -> None:
    job = tiny(tmp_path / "out", name="my car")
    heard: list[News] = []
    outcome = train(tmp_path / "out", heard.append)
    assert outcome.reason == f"{outcome.steps} steps were driven"
    assert outcome.steps >= 400
    assert outcome.iterations == len(history(tmp_path / "out"))
    assert {news.doing for news in heard} == {"driving", "learning", "evaluating"}
    assert [news.steps for news in heard] == sorted(news.steps for news in heard)
    assert heard[-1].part == 1.0
    told = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    last = outcome.iterations - 1
    assert {
        "my_car.tar.gz",
        "reward_function.py",
        "model_metadata.json",
        "training_params.yaml",
        "ip/hyperparameters.json",
        "metrics/TrainingMetrics.json",
        "reward_graph.png",
        "reward_graph.csv",
        "model/.coach_checkpoint",
        "model/deepracer_checkpoints.json",
        f"model/model_{last}.pb",
        *(f"training-simtrace/{number}-iteration.csv" for number in range(outcome.iterations)),
    } <= told
    metrics = json.loads((tmp_path / "out" / "metrics" / "TrainingMetrics.json").read_text())["metrics"]
    assert [each["phase"] for each in metrics].count("training") == 5 * outcome.iterations
    assert outcome.package is not None
    (tmp_path / "room").mkdir()
    package = unpack(outcome.package, tmp_path / "room")
    assert OpenVinoPolicy(package).package.metadata.action_space == job.agent.actions
    with Jobs(tmp_path / "out" / DATABASE) as jobs:
        assert jobs.status(1) == (Status.DONE, outcome.reason)
    [result] = show(tmp_path / "out", job, outcome.package, video=True)
    assert len(result.trials) == 2
    assert (tmp_path / "out" / "evaluation" / "reinvent_base.mp4").stat().st_size > 1000


def test_equal_seeds_give_equal_weights_and_others_do_not(tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("two", 1), ("other", 2)):
        tiny(tmp_path / name, seed=seed)
        train(tmp_path / name, silent)
    assert same(weights(tmp_path / "one"), weights(tmp_path / "two"))
    assert not same(weights(tmp_path / "one"), weights(tmp_path / "other"))
    traces = [(tmp_path / name / "training-simtrace" / "0-iteration.csv").read_bytes() for name in ("one", "two")]
    assert _poses(traces[0]) == _poses(traces[1]) != []


def _poses(trace: bytes) -> list[list[str]]:
    """All columns but the last, the time on the wall."""
    return [line.split(",")[:-1] for line in trace.decode().splitlines()]


def _carry_on(folder: Path) -> None:
    train(folder, silent)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("algorithm", ["ppo", "sac"])
def test_who_is_killed_twenty_times_comes_to_the_same_end(algorithm: str, tmp_path: Path) -> None:
    more = {"agent": {"algorithm": algorithm}, "stop": TINY["stop"] | {"steps": 900}}
    tiny(tmp_path / "whole", **more)
    train(tmp_path / "whole", silent)
    tiny(tmp_path / "killed", **more)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cloud_trainer.train"])
    chance = random.Random(algorithm)
    done = 0
    for _ in range(20):
        process = context.Process(target=_carry_on, args=(tmp_path / "killed",))
        process.start()
        process.join(chance.uniform(0.0, 2.5))
        process.kill()
        process.join()
        now = len(history(tmp_path / "killed"))
        assert now >= done
        done = now
    train(tmp_path / "killed", silent)
    assert [each.steps for each in history(tmp_path / "killed")] == [each.steps for each in history(tmp_path / "whole")]
    assert same(weights(tmp_path / "killed"), weights(tmp_path / "whole"))
    with Jobs(tmp_path / "killed" / DATABASE) as killed, Jobs(tmp_path / "whole" / DATABASE) as whole:
        assert killed.records(1) == whole.records(1)


def test_a_finished_training_goes_on_when_it_is_allowed_more(tmp_path: Path) -> None:
    tiny(tmp_path)
    first = train(tmp_path, silent)
    again = train(tmp_path, silent)
    assert (again.iterations, again.reason) == (first.iterations, first.reason)
    more = train(tmp_path, silent, changes={"steps": first.steps + 100})
    assert more.steps >= first.steps + 100
    assert job_of(tmp_path).stop.steps == first.steps + 100


def test_a_reward_that_fails_ends_the_job_with_its_line_and_keeps_the_rest(tmp_path: Path) -> None:
    lines = (
        "def reward_function(params):",
        "    if params['progress'] > 15:",
        "        return 1 / 0",
        "    return 1.0",
        "",
    )
    tiny(tmp_path, reward_function="\n".join(lines), stop=TINY["stop"] | {"steps": 100_000})
    with pytest.raises(RewardError, match="in line 3: ") as caught:
        train(tmp_path, silent)
    assert caught.value.params is not None
    assert caught.value.params["progress"] > 15
    with Jobs(tmp_path / DATABASE) as jobs:
        assert jobs.status(1) == (Status.FAILED, str(caught.value))
    assert (tmp_path / "model.tar.gz").is_file() == bool(history(tmp_path))


def test_two_tracks_and_both_directions_take_turns(tmp_path: Path) -> None:
    tiny(tmp_path, track=["reinvent_base", "Oval_track"], rules={"alternate_driving_direction": True})
    train(tmp_path, silent)
    trace = (tmp_path / "training-simtrace" / "0-iteration.csv").read_text().splitlines()
    lengths = {line.split(",")[13] for line in trace[1:]}
    assert len(lengths) == 2


def test_the_line_up_is_one_cars_turns() -> None:
    rules = Rules(change_start_position=True, alternate_driving_direction=True)
    starts, directions = line_up(rules, 1, 6)
    np.testing.assert_allclose(starts, [0.3, 0.35, 0.4, 0.45, 0.5, 0.55])
    assert directions.tolist() == [0, 1, 0, 1, 0, 1]
    starts, directions = line_up(Rules(reverse_dir=True), 3, 2)
    assert (starts.tolist(), directions.tolist()) == ([0.0, 0.0], [1, 1])


def test_a_package_is_trained_further(tmp_path: Path) -> None:
    tiny(tmp_path / "first", agent={"actions": [[-20, 1.1], [0, 1.3], [20, 1.1]]})
    package = train(tmp_path / "first", silent).package
    assert package is not None
    job, graph = plan(None, package, TINY | {"hyperparameters": {"num_episodes_between_training": 5, "lr": 1e-8}})
    assert job.agent == job_of(tmp_path / "first").agent
    begin(tmp_path / "second", job, graph)
    train(tmp_path / "second", silent)
    before, after = weights(tmp_path / "first"), weights(tmp_path / "second")
    for name in before:
        np.testing.assert_allclose(after[name], before[name], atol=1e-4)
    whole, _ = plan(None, tmp_path / "first", {"seed": 5})
    assert whole.hyperparameters == job_of(tmp_path / "first").hyperparameters
    assert (whole.reward, whole.seed) == (job.reward, 5)


def test_a_package_of_other_senses_or_actions_is_refused(tmp_path: Path) -> None:
    tiny(tmp_path / "first")
    package = train(tmp_path / "first", silent).package
    with pytest.raises(JobError, match="sensors must be FRONT_FACING_CAMERA, which the model was trained with, not "):
        plan(None, package, {"agent": {"sensors": ["STEREO_CAMERAS"]}})
    job, graph = plan(None, package, {"agent": {"actions": [[0, 1.0], [5, 1.0]]}})
    with pytest.raises(PackageError):
        begin(tmp_path / "second", job, graph)
    assert not (tmp_path / "second").exists()


def test_a_folder_holds_one_training_and_one_process(tmp_path: Path) -> None:
    tiny(tmp_path)
    with pytest.raises(JobError, match="holds a training already: go on with it by --resume"):
        tiny(tmp_path)
    with pytest.raises(JobError, match="holds no training"):
        train(tmp_path / "nowhere", silent)
    assert not (tmp_path / "nowhere").exists()


def test_a_situation_tells_where_the_road_goes() -> None:
    job = read_job(TINY | {"rules": {"race_type": "OBJECT_AVOIDANCE", "number_of_obstacles": 2}})
    with Circuit(job, 0, 2) as road:
        seen: list[int] = []

        def straight(observations: dict[str, Any]) -> tuple[Any, Any]:
            seen.append(len(observations["FRONT_FACING_CAMERA"]))
            return np.full(seen[-1], 2), np.zeros(seen[-1], np.float32)

        episodes, told = road.drive(straight, 0, np.array([0.0, 0.5]))
    assert sum(seen) == len(told) == sum(len(episode.rewards) for episode in episodes)
    assert told.situations.shape == (len(told), situation_size(job))
    assert told.first.tolist() == [0, len(episodes[0].rewards), len(told)]
    # On the centre line at rest: the road points ahead (sine 0, cosine 1), the car is not beside it.
    np.testing.assert_allclose(told.situations[0, [0, 7, 14]], [0.0, 1.0, 0.0], atol=0.05)
    assert np.isfinite(told.situations).all()
    assert np.abs(told.situations).max() < 20
    assert not told.cut.any()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--track", "nowhere"], "nowhere"),
        (["--set", "hyperparameters.lr=5"], "lr must lie in 1e-08..0.001, not 5."),
        (["--set", "hyperparameter.lr=5"], "There is no setting 'hyperparameter'; did you mean hyperparameters?"),
        (["--set", "lr"], "'lr' is not of the form KEY=VALUE."),
        (["--network", "huge"], "network must be one of compact, 3-layer, 5-layer, deep, not 'huge'."),
        (["--reward", "none.py"], "reward must be a file, or one of "),
        (["--config", "none.toml"], "none.toml cannot be read: No such file or directory."),
        (["--from", "none.tar.gz"], "none.tar.gz"),
        (["--max-minutes", "-1"], "minutes must lie in 0.."),
        (["--max-steps", "0"], "argument --max-steps: '0' is not a whole number of at least 1"),
        (["--randomise", "mars"], "randomisation must be one of none, lights, real-world, "),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        status = main(["train", "--out", "out", *arguments])
    except SystemExit as leave:
        status = int(leave.code or 0)
    assert status == 2
    told = capsys.readouterr().err.strip()
    assert said in told
    assert told.count("\n") == 0
    assert list(tmp_path.iterdir()) == []


def test_resume_takes_nothing_but_limits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--resume", str(tmp_path), "--seed", "3"]) == 2
    assert "--resume goes on with the training as it is" in capsys.readouterr().err
    assert main(["train", "--resume", str(tmp_path / "none")]) == 2
    assert "holds no training" in capsys.readouterr().err


@pytest.mark.timeout(120)
def test_an_interrupted_command_leaves_a_package_and_says_how_to_go_on(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "cloud_trainer", "train", "--out", str(out), "--clean", "0"]
    settings = ["--set", "hyperparameters.num_episodes_between_training=5", "--set", "evaluation.trials=1"]
    process = subprocess.Popen([*command, *settings], stderr=subprocess.PIPE, text=True)
    assert process.stderr
    first = process.stderr.readline()
    while not first.startswith("iteration 2"):
        assert first
        first = process.stderr.readline()
    process.terminate()  # SIGINT would be ignored where the tests themselves run in the background
    rest = process.stderr.read()
    assert process.wait() == 130
    process.stderr.close()
    assert "Stopped from outside" in rest
    assert f"python -m cloud_trainer train --resume {out}" in rest
    assert (out / "model.tar.gz").is_file()
    before = len(history(out))
    assert main(["train", "--resume", str(out), "--max-steps", "1"]) == 0
    assert len(history(out)) == before
    assert (out / "evaluation" / "paths.png").stat().st_size > 1000
