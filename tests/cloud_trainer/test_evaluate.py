"""Evaluation: laps, mistakes and penalties as they happened; tables, plots and films; bad input in one sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest
from playwright.sync_api import sync_playwright

from cloud_trainer import draw
from cloud_trainer.__main__ import main
from cloud_trainer.evaluate import Result, driver_of, evaluate, evaluate_package
from drivers.signals import Observation
from inference.package import Sensor, unpack
from inference.policy import OpenVinoPolicy
from sim_stub.dynamics import IDEAL, Command
from sim_stub.race import Status
from sim_stub.rules import RaceType, Rules
from sim_stub.track import load
from tests.browser import QUIET
from tests.inference.making import metadata, onnx, package

SAMPLE = Path(__file__).parents[2] / "vehicle" / "sample.tar.gz"
CHROMIUM = shutil.which("chromium")


def straight_on(observations: Sequence[Observation]) -> Command:
    return np.tile([0.0, 2.0], (len(observations), 1))


def round_the_circle(observations: Sequence[Observation]) -> Command:
    """The wheel angle at which the rear axle of an ideal car follows a circle of 2 m, counter-clockwise."""
    return np.tile([np.arctan(0.163974 / 1.99), 1.0], (len(observations), 1))


@pytest.fixture(scope="module")
def circle(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A round track of 2 m radius, 0.8 m wide."""
    angle = np.linspace(0, 2 * np.pi, 128)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    ring[-1] = ring[0]
    path = tmp_path_factory.mktemp("tracks") / "circle.npy"
    np.save(path, np.hstack([2.0 * ring, 1.6 * ring, 2.4 * ring]))
    return str(path)


def test_laps_take_what_speed_and_length_say(circle: str) -> None:
    result = evaluate("circle", round_the_circle, load(circle), Rules(laps=3), IDEAL, 2)
    lap = load(circle).length / 1.0
    assert [len(trial.run.laps) for trial in result.trials] == [3, 3]
    for trial in result.trials:
        first, *flying = trial.run.laps
        assert first == pytest.approx(lap * (1 - 0.14 / load(circle).length), rel=0.02)
        assert flying == pytest.approx([lap, lap], rel=0.01)
        assert trial.run.status is Status.LAP_COMPLETE
        assert trial.run.completion == 100
        assert len(trial.path) == pytest.approx(3 * lap * 15, abs=8)
    assert result.clean == 2
    assert result.three_laps == pytest.approx(np.mean(result.trials[0].run.laps), rel=0.01)


def test_a_mistake_costs_its_penalty_and_a_reset(circle: str) -> None:
    rules = Rules(number_of_resets=2, off_track_penalty=3.0)
    run = evaluate("blind", straight_on, load(circle), rules, IDEAL, 1).trials[0].run
    assert run.mistakes[Status.OFF_TRACK] == 3
    assert (run.resets, run.status, run.laps) == (2, Status.OFF_TRACK, [])
    assert run.seconds > 6.0
    assert 0 < run.completion < 100


def test_without_resets_the_first_mistake_ends_the_trial(circle: str) -> None:
    run = evaluate("blind", straight_on, load(circle), Rules(), IDEAL, 1).trials[0].run
    assert (run.mistakes[Status.OFF_TRACK], run.resets) == (1, 0)


def test_trials_differ_by_where_they_start_unless_they_are_told_not_to(circle: str) -> None:
    spread = evaluate("x", round_the_circle, load(circle), Rules(), IDEAL, 4)
    same = evaluate("x", round_the_circle, load(circle), Rules(), IDEAL, 4, spread=False)
    assert len({tuple(np.round(trial.path[0, :2], 3)) for trial in spread.trials}) == 4
    assert len({tuple(np.round(trial.path[0, :2], 3)) for trial in same.trials}) == 1


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Result:
    home = unpack(SAMPLE, tmp_path_factory.mktemp("sample"))
    return evaluate_package(home, load("reinvent_base"), Rules(rate=10.0), 3)


def test_the_sample_makes_clean_laps_in_the_physics_of_its_version(sample: Result) -> None:
    assert sample.clean == 3
    assert all(7 < lap < 12 for lap in sample.laps)


def test_the_record_speaks_the_words_of_the_original(sample: Result) -> None:
    record = sample.trials[0].record(1)
    assert record["episode_status"] == "Lap complete"
    assert record["completion_percentage"] == 100
    assert record["elapsed_time_in_milliseconds"] == pytest.approx(1000 * sample.laps[0], abs=101)
    assert (record["off_track_count"], record["crash_count"], record["reset_count"]) == (0, 0, 0)


def test_a_table_has_a_line_a_model(sample: Result) -> None:
    head, *lines = draw.table([sample, sample]).splitlines()
    assert len(lines) == 2
    assert "crashes" not in head
    assert f"{min(sample.laps):.2f} s" in lines[0]
    assert "3 of 3" in lines[0]


@pytest.mark.parametrize(
    "sensors", [("STEREO_CAMERAS",), ("FRONT_FACING_CAMERA", "LIDAR"), ("STEREO_CAMERAS", "SECTOR_LIDAR")]
)
def test_a_package_gets_the_sensors_that_it_needs(sensors: tuple[str, ...], circle: str, tmp_path: Path) -> None:
    shapes = {"STEREO_CAMERAS": (1, 120, 160, 2), "FRONT_FACING_CAMERA": (1, 120, 160, 1), "LIDAR": (1, 64)}
    inputs = {name: shapes.get(name, (1, 8)) for name in sensors}
    width = {"STEREO_CAMERAS": 2, "FRONT_FACING_CAMERA": 1, "LIDAR": 64}
    rows = sum(width.get(name, 8) for name in sensors)
    # The first channel of the picture alone speaks, and for the slowest action.
    weights = np.zeros((rows, 3), np.float32)
    weights[0, 0] = 1.0
    source = package(tmp_path / "eyes.tar.gz", onnx(weights, inputs), metadata(sensor=list(sensors)))
    (tmp_path / "home").mkdir()
    eyes = unpack(source, tmp_path / "home")
    assert set(eyes.sensors) == {Sensor(name) for name in sensors}
    result = evaluate_package(eyes, load(circle), Rules(max_steps=10), 1)
    assert result.trials[0].run.status is Status.TIME_UP
    assert result.trials[0].path[-1, 2] > 0.1


def test_the_driver_takes_the_choice_of_the_cars_own_policy(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    model = unpack(package(tmp_path / "small.tar.gz"), tmp_path / "home")
    policy = OpenVinoPolicy(model)
    seen: list[Observation] = []

    def look(observations: Sequence[Observation]) -> Command:
        seen.extend(observations)
        return driver_of(model, policy)(observations)

    result = evaluate("small", look, load("Oval_track"), Rules(max_steps=5), IDEAL, 1)
    angle, speed = model.metadata.action_space.choice(policy.infer(seen[0]))
    assert result.trials[0].path[-1, 2] == pytest.approx(speed)
    assert angle == 0  # the second of three actions, by the weights of tests.inference.making
    assert seen[0].frames[0].image.shape == (120, 160, 3)


def test_objects_are_counted(circle: str) -> None:
    rules = Rules(race_type=RaceType.OBJECT_AVOIDANCE, object_positions=((0.3, 1), (0.6, -1)))
    result = evaluate("x", round_the_circle, load(circle), rules, IDEAL, 1, spread=False)
    assert result.count(Status.CRASHED) == 1
    assert "crashes" in draw.table([result])


def test_the_command_line_compares_models_and_draws_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slow = shutil.copy(SAMPLE, tmp_path / "copy.tar.gz")
    out = tmp_path / "paths.png"
    arguments = ["evaluate", "--model", str(SAMPLE), "--model", str(slow), "--trials", "1", "--laps", "1", "--json"]
    assert main([*arguments, "--plot", str(out)]) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert [result["model"] for result in results] == ["sample", "copy"]
    assert results[0]["trials"] == results[1]["trials"]
    assert results[0]["best_lap"] == results[0]["trials"][0]["laps"][0]
    assert out.read_bytes().startswith(b"\x89PNG")


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")
def test_a_film_plays_in_a_browser(circle: str, tmp_path: Path) -> None:
    out = tmp_path / "film.mp4"
    track, rules = load(circle), Rules(max_steps=60)
    with draw.Film(out, track, rules.rate) as film:
        evaluate("x", round_the_circle, track, rules, IDEAL, 1, watch=film)
    with av.open(str(out)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 59
    assert np.abs(frames[0].astype(int) - frames[-1]).max() > 100
    (tmp_path / "page.html").write_text("<video src='film.mp4' muted></video>")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page()
        page.goto((tmp_path / "page.html").as_uri())
        played = page.evaluate(
            """async () => {
                const film = document.querySelector("video");
                const ended = new Promise((resolve, reject) => {
                    film.onended = resolve;
                    film.onerror = () => reject(film.error.message);
                });
                film.playbackRate = 8;
                await film.play();
                await ended;
                return [film.videoWidth, film.videoHeight, film.duration];
            }"""
        )
        browser.close()
    assert played[:2] == [640, 600]
    assert played[2] == pytest.approx(59 / 15, abs=0.1)


def test_a_film_that_fails_leaves_nothing(circle: str, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), draw.Film(tmp_path / "film.mp4", load(circle), 15.0):
        1 / 0  # noqa: B018 - any error will do
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--track", "monza"], "There is no track 'monza'"),
        (["--model", "nowhere.tar.gz"], "nowhere.tar.gz"),
        (["--race-type", "rally"], "race_type must be one of TIME_TRIAL"),
        (["--rule", "number_of_bots=3"], "There is no rule 'number_of_bots'; did you mean number_of_bot_cars?"),
        (["--rule", "bot_car_speed=9"], "bot_car_speed must lie in 0..4, not 9"),
        (["--rule", "bot_car_speed=fast"], "bot_car_speed must be a number, not 'fast'"),
        (["--rule", "laps"], "'laps' is not of the form KEY=VALUE"),
        (["--randomise", "fog"], "randomisation must be one of none, lights, real-world"),
        (["--randomise", "blur=2"], "The strength of blur must lie in 0..1, not 2"),
        (["--physics", "7"], "--physics must be 1..6"),
        (["--rate", "100"], "rate must lie in 5..60, not 100"),
        (["--laps", "0"], "not a whole number of at least 1"),
        (["--plot", "paths.gif"], "must end in .png"),
        (["--video", "/nowhere/film.mp4"], "there is no folder /nowhere"),
        (["--track", "straight", "--rule", "alternate_driving_direction=true"], "Straight is an open track"),
    ],
)
def test_bad_input_gets_one_sentence_and_writes_nothing(
    arguments: list[str],
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        status = main(["evaluate", "--model", str(SAMPLE), "--laps", "1", *arguments])
    except SystemExit as ended:
        status = int(ended.code or 0)
    told = capsys.readouterr().err
    assert status == 2
    assert why in told
    assert told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
