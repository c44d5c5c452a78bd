"""Training folders: TensorFlow restores ours, and ours, strangers' and half of them are read again, or refused."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud_trainer.agent import Agent, Algorithm
from cloud_trainer.bundle import read_bundle
from cloud_trainer.export import freeze, thaw, write_package
from cloud_trainer.folder import Imported, Snapshot, model_files, open_model
from cloud_trainer.job import Hyperparameters, Job, JobError, read_job
from cloud_trainer.network import PolicyNetwork
from cloud_trainer.params import hyperparameters_json, training_params_yaml
from inference.actions import ContinuousActions
from inference.package import PackageError, Sensor
from sim_stub.rules import RaceType, Rules
from tests.inference.making import archive, package

Files: TypeAlias = dict[str, bytes]

SAMPLE = Path(__file__).parents[3] / "shared" / "data" / "models" / "aws-sample-15.tar.gz"
RANGES = ContinuousActions(steering_deg=(-25.0, 25.0), speed=(1.0, 2.0))
LIDAR = Agent(sensors=(Sensor.FRONT_FACING_CAMERA, Sensor.SECTOR_LIDAR))
SAC = Agent(actions=RANGES, algorithm=Algorithm.SAC)
JOB = Job(
    name="quick one",
    tracks=("reinvent_base",),
    reward="def reward_function(params):\n    return params['progress']  # größer\n",
    hyperparameters=Hyperparameters(batch_size=128, lr=0.0001, discount_factor=0.95),
    rules=Rules(RaceType.OBJECT_AVOIDANCE, change_start_position=True, number_of_obstacles=3),
)


def policy(agent: Agent, seed: int) -> PolicyNetwork:
    with torch.device("meta"):
        network = agent.policy()
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.to_empty(device="cpu").parameters():
            parameter.normal_(0, (2 / max(parameter[0].numel(), 100)) ** 0.5, generator=chance)
    return network


def snapshots(agent: Agent) -> tuple[Snapshot, Snapshot]:
    """The last, and the best."""
    return Snapshot(12, 34567, 62.5, 81.0, policy(agent, 1)), Snapshot(9, 23456, 87.5, 60.0, policy(agent, 2))


def whole(job: Job = JOB) -> Files:
    """A folder of ours."""
    return model_files(job.agent, *snapshots(job.agent)) | {
        "reward_function.py": job.reward.encode(),
        "training_params.yaml": training_params_yaml(job),
        "ip/hyperparameters.json": hyperparameters_json(job),
        "training-simtrace/0-iteration.csv": b"episode,steps\n",
    }


WHOLE = whole()
LAST, BEST = snapshots(JOB.agent)
MODEL = ("model/model_9.pb", "model/model_12.pb")
CHECKPOINTS = tuple(name for name in WHOLE if ".ckpt." in name)
COACHES = ("model/.coach_checkpoint", "model/deepracer_checkpoints.json")


def without(*names: str) -> Files:
    return {name: data for name, data in WHOLE.items() if name not in names}


def lay(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def pack(path: Path, files: Mapping[str, bytes]) -> Path:
    path.write_bytes(archive(files))
    return path


# Ours


def test_the_folder_has_what_the_manual_asks_for() -> None:
    assert set(model_files(JOB.agent, LAST, BEST)) == {
        "model_metadata.json",
        *(f"model/{name}" for name in (".coach_checkpoint", ".ready", "deepracer_checkpoints.json")),
        "model/model_metadata.json",
        *(f"model/9_Step-23456.ckpt.{part}" for part in ("index", "data-00000-of-00001", "meta")),
        *(f"model/12_Step-34567.ckpt.{part}" for part in ("index", "data-00000-of-00001", "meta")),
        *("model/model_9.pb", "model/model_12.pb"),
    }
    assert WHOLE["model/.coach_checkpoint"] == b"12_Step-34567.ckpt"
    assert json.loads(WHOLE["model/deepracer_checkpoints.json"]) == {
        "best_checkpoint": {"name": "9_Step-23456.ckpt", "avg_eval_metric": 87.5, "time_stamp": 60.0},
        "last_checkpoint": {"name": "12_Step-34567.ckpt", "avg_eval_metric": 62.5, "time_stamp": 81.0},
    }
    assert WHOLE["model/model_9.pb"] == freeze(BEST.policy)
    assert json.loads(WHOLE["model/model_metadata.json"]) == JOB.agent.metadata()


def test_the_best_may_be_the_last_and_without_a_metric() -> None:
    files = model_files(JOB.agent, LAST, replace(LAST, metric=None))
    assert sum(name.endswith(".pb") for name in files) == 1
    told = json.loads(model_files(JOB.agent, LAST, replace(LAST, metric=float("-inf")))[COACHES[1]])
    assert told["best_checkpoint"]["avg_eval_metric"] is None
    assert told["last_checkpoint"]["avg_eval_metric"] == 62.5


@pytest.mark.parametrize("agent", [Agent(), Agent(network="3-layer"), LIDAR, Agent(actions=RANGES), SAC])
def test_what_was_written_is_read_again(agent: Agent, tmp_path: Path) -> None:
    job = replace(JOB, agent=agent)
    files = whole(job)
    imported = open_model(lay(tmp_path, files))
    assert imported.graph == files["model/model_9.pb"]
    again = read_job(imported.job)
    assert again.agent == replace(agent, lidar=agent.lidar_config)
    assert (again.reward, again.hyperparameters, again.tracks) == (job.reward, job.hyperparameters, job.tracks)
    assert (again.rules, again.evaluation.trials) == (job.rules, job.evaluation.trials)


def test_the_reward_function_is_only_text(tmp_path: Path) -> None:
    source = f"open({str(tmp_path / 'trace')!r}, 'w')\nraise SystemExit\n"
    imported = open_model(lay(tmp_path / "folder", WHOLE | {"reward_function.py": source.encode()}))
    assert imported.job["reward_function"] == source
    assert not (tmp_path / "trace").exists()


# TensorFlow's word

TENSORFLOW = """
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

tf1 = tf.compat.v1


def answer_and_save(folder):
    with np.load(folder / "inputs.npz") as held:
        inputs = dict(held)
    output = (folder / "output").read_text()
    prefix = str(folder / "ours/model/9_Step-23456.ckpt")
    with tf.Graph().as_default(), tf1.Session() as session:
        saver = tf1.train.import_meta_graph(prefix + ".meta")
        saver.restore(session, prefix)
        np.save(folder / "answers.npy", session.run(output, inputs))
        saver.save(session, str(folder / "again"))
    return tf.train.load_checkpoint(prefix)


def save_as_the_original(ours, folder):
    with tf.Graph().as_default(), tf1.Session() as session:
        for name in ours.get_variable_to_shape_map():
            value = ours.get_tensor(name)
            tf1.get_variable(name, initializer=value)
            for other in (name.replace("network_1", "network_0"), name + "/Adam", name + "/Adam_1"):
                if other != name:
                    tf1.get_variable(other, initializer=0 * value + 7)
        tf1.get_variable("global_step", initializer=np.int64(5))
        tf1.get_variable("main_level/agent/main/online/beta1_power", initializer=np.float32(0.9))
        session.run(tf1.global_variables_initializer())
        folder.mkdir()
        tf1.train.Saver().save(session, str(folder / "3_Step-1000.ckpt"))


for folder in Path(sys.argv[1]).iterdir():
    save_as_the_original(answer_and_save(folder), folder / "theirs")
"""
AGENTS = {"camera": Agent(), "lidar": LIDAR, "sac": SAC}


@pytest.fixture(scope="module")
def restored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For each of AGENTS a folder in which TensorFlow answered with our checkpoint and saved one like the stock's."""
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("there is no TensorFlow for this system or this Python")
    room = tmp_path_factory.mktemp("tensorflow")
    for name, agent in AGENTS.items():
        lay(room / name / "ours", whole(replace(JOB, agent=agent)))
        scope, output = ("main/online", "network_1/ppo_head_0")
        if agent is SAC:
            scope, output = ("policy/online", "network_0/sac_policy_head_0")
        (room / name / "output").write_text(f"main_level/agent/{scope}/{output}/policy:0")
        seen = {
            f"main_level/agent/{scope}/network_0/{sensor}/{sensor}:0": values.numpy()
            for sensor, values in situations(agent).items()
        }
        np.savez(room / name / "inputs.npz", allow_pickle=False, **seen)
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    run = subprocess.run(
        [sys.executable, "-c", TENSORFLOW, str(room)], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return room


def situations(agent: Agent) -> dict[str, torch.Tensor]:
    chance = torch.Generator().manual_seed(3)
    return {
        sensor.value: torch.rand(3, size, generator=chance)
        if sensor.is_lidar
        else 255 * torch.rand(3, 120, 160, size, generator=chance)
        for sensor, size in policy(agent, 1).inputs.items()
    }


@pytest.mark.parametrize("name", AGENTS)
def test_tensorflow_restores_our_checkpoint_and_answers_as_the_policy(name: str, restored: Path) -> None:
    agent = AGENTS[name]
    with torch.inference_mode():
        head = policy(agent, 2)(situations(agent))
    expected = torch.tanh(head) if agent is SAC else torch.softmax(head, 1)
    np.testing.assert_allclose(np.load(restored / name / "answers.npy"), expected.numpy(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", AGENTS)
def test_what_tensorflow_saves_of_it_is_the_same(name: str, restored: Path) -> None:
    ours, again = (
        read_bundle(Path(f"{prefix}.index").read_bytes(), Path(f"{prefix}.data-00000-of-00001").read_bytes())
        for prefix in (restored / name / "ours/model/9_Step-23456.ckpt", restored / name / "again")
    )
    assert ours.keys() == again.keys()
    assert all(tensor.tobytes() == again[key].tobytes() for key, tensor in ours.items())


@pytest.mark.parametrize("name", AGENTS)
def test_a_checkpoint_of_the_originals_kind_is_enough(name: str, restored: Path, tmp_path: Path) -> None:
    agent = AGENTS[name]
    theirs = {f"model/{file.name}": file.read_bytes() for file in (restored / name / "theirs").iterdir()}
    theirs["model/.coach_checkpoint"] = b"3_Step-1000.ckpt\n"
    theirs["model_metadata.json"] = json.dumps(agent.metadata()).encode()
    imported = open_model(lay(tmp_path, theirs))
    assert imported.graph == freeze(policy(agent, 2))
    assert read_job(imported.job).agent == replace(agent, lidar=agent.lidar_config)


# Everybody's


def graph_of(imported: Imported) -> str:
    return {freeze(LAST.policy): "last", freeze(BEST.policy): "best"}[imported.graph]


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (WHOLE, "best"),
        (without(*MODEL), "best"),
        (without("model/model_9.pb"), "best"),
        (without("model/model_9.pb", "model/9_Step-23456.ckpt.index"), "last"),
        (without("model/deepracer_checkpoints.json"), "last"),
        (without("model/.coach_checkpoint"), "best"),
        (without("model_metadata.json"), "best"),
        (without("model/model_metadata.json", *CHECKPOINTS), "best"),
        ({"agent/model.pb": freeze(BEST.policy)} | without(*MODEL, *CHECKPOINTS, *COACHES), "best"),
        ({"model/agent/model.pb": freeze(BEST.policy)} | without(*MODEL, *CHECKPOINTS), "best"),
        ({f"Thu, 30 Nov 2023 19:01:24 GMT/{name}": data for name, data in WHOLE.items()}, "best"),
        ({f"./{name}": data for name, data in WHOLE.items()}, "best"),
        (WHOLE | {"model/._model_9.pb": b"\0", "old/run/model_metadata.json": b"{}"}, "best"),
        (WHOLE | {COACHES[1]: b'{"best_checkpoint": {"name": null}, "last_checkpoint": null}'}, "last"),
    ],
)
def test_folders_and_archives_of_many_makers_are_read(files: Files, found: str, tmp_path: Path) -> None:
    for source in (lay(tmp_path / "folder", files), pack(tmp_path / "training.tar.gz", files)):
        imported = open_model(source)
        assert graph_of(imported) == found
        assert imported.job["hyperparameters"]["batch_size"] == 128


def test_a_folder_needs_neither_parameters_nor_a_reward_function(tmp_path: Path) -> None:
    told = ("reward_function.py", "training_params.yaml", "ip/hyperparameters.json")
    imported = open_model(lay(tmp_path, without(*told)))
    assert imported.job == {"agent": Job().document()["agent"]}


def test_a_car_package_is_told_from_a_training(tmp_path: Path) -> None:
    write_package(tmp_path / "car.tar.gz", freeze(LAST.policy), JOB.agent.metadata())
    imported = open_model(tmp_path / "car.tar.gz")
    assert graph_of(imported) == "last"
    assert read_job(imported.job).agent == JOB.agent
    with pytest.raises(PackageError, match=r"cannot be trained further: .* \.onnx"):
        open_model(package(tmp_path / "onnx.tar.gz"))


COMMUNITY = {
    "batch_size": 64,
    "beta_entropy": 0.01,
    "discount_factor": 0.99,
    "e_greedy_value": 0.05,
    "epsilon_steps": 10000,
    "exploration_type": "categorical",
    "loss_type": "huber",
    "lr": 0.0003,
    "num_episodes_between_training": 20,
    "num_epochs": 5,
    "stack_size": 1,
    "term_cond_avg_score": 350.0,
    "term_cond_max_episodes": 1000,
}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (COMMUNITY, Hyperparameters(discount_factor=0.99, num_epochs=5, term_cond_avg_score=350.0)),
        (COMMUNITY | {"num_epochs": 5.0, "sac_alpha": None, "gae_lambda": 0.95}, Hyperparameters(num_epochs=5)),
        ({"exploration_type": "additive_noise", "sac_alpha": 0.1}, Hyperparameters(sac_alpha=0.1)),
        ({}, Hyperparameters()),
    ],
)
def test_the_communitys_hyperparameters_are_understood(
    values: dict[str, object], expected: Hyperparameters, tmp_path: Path
) -> None:
    files = without("ip/hyperparameters.json") | {"hyperparameters.json": json.dumps(values).encode()}
    job = read_job(open_model(lay(tmp_path, files)).job)
    if "batch_size" in values:
        expected = replace(expected, discount_factor=0.99, term_cond_avg_score=350.0, term_cond_max_episodes=1000)
    assert job.hyperparameters == expected


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("ip/hyperparameters.json", b'{"num_epochs": 11}', r"num_epochs must lie in 3\.\.10, not 11\."),
        ("ip/hyperparameters.json", b'{"lr": NaN}', "lr must lie in"),
        ("ip/hyperparameters.json", b'{"lr": "fast"}', "lr must be a number"),
        ("ip/hyperparameters.json", b'{"lr": 1' + b"0" * 400 + b"}", "must lie in"),
        ("ip/hyperparameters.json", b"[]", "hyperparameters.json must hold a JSON object"),
        ("ip/hyperparameters.json", b"{", "hyperparameters.json is no JSON"),
        ("ip/hyperparameters.json", b"[" * 100_000, "hyperparameters.json is no JSON"),
        ("reward_function.py", b"a = 1\nb = '\xff'", "reward_function.py:2:6: this is not UTF-8"),
        ("training_params.yaml", b"WORLD_NAME: \xff", "training_params.yaml:1:13: this is not UTF-8"),
        ("training_params.yaml", b"WORLD_NAME: [", "WORLD_NAME must be"),
    ],
)
def test_settings_that_cannot_be_are_refused(name: str, data: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(JobError, match=message):
        open_model(lay(tmp_path, WHOLE | {name: data}))


# What the manual's troubleshooting tells


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            without(*MODEL, *CHECKPOINTS, *COACHES),
            "it holds no model: neither a checkpoint in model/ nor agent/model.pb.",
        ),
        (without(*COACHES), r"it has no coach file, model/\.coach_checkpoint, which names the checkpoint to take"),
        (without(*COACHES, *MODEL), r"it has no coach file, model/\.coach_checkpoint"),
        (
            without(*MODEL, *CHECKPOINTS),
            r"it lacks the files of its checkpoint: there must be model/model_9\.pb, or model/9_Step-23456\.ckpt\.ind",
        ),
        (without(*MODEL, *(name for name in CHECKPOINTS if "data" in name)), "it lacks the files of its checkpoint"),
        (without("model_metadata.json", "model/model_metadata.json"), "it has no model_metadata.json"),
        (WHOLE | {"model_metadata.json": b"{}"}, r"model_metadata\.json has no action_space"),
        (WHOLE | {"model_metadata.json": json.dumps(SAC.metadata()).encode()}, "its network is none of compact"),
        (WHOLE | {"model/model_9.pb": b"\xff"}, "The model is damaged"),
        (WHOLE | {"model/model_9.pb": freeze(policy(SAC, 1))}, "its network is none of compact"),
        (without(*MODEL) | {"model/9_Step-23456.ckpt.index": b"\0" * 99}, "index is not one of TensorFlow's"),
        (without(COACHES[1]) | {COACHES[0]: b"../../etc/passwd"}, r"names a checkpoint '../../etc/passwd'"),
        (without(COACHES[1]) | {COACHES[0]: b"\xff\xfe"}, "names a checkpoint"),
        (WHOLE | {COACHES[1]: b"[]"}, "is damaged: it names no checkpoints"),
        (WHOLE | {COACHES[1]: b"{"}, "is damaged: it names no checkpoints"),
        (WHOLE | {COACHES[1]: b'{"best_checkpoint": "9"}'}, "is damaged: it names no checkpoints"),
        (
            {f"{name}/{path}": data for name in ("one", "two") for path, data in WHOLE.items()},
            "it holds several trainings",
        ),
    ],
)
def test_what_is_missing_or_wrong_is_told_in_a_sentence(files: Files, message: str, tmp_path: Path) -> None:
    (tmp_path / "packed").mkdir()
    for source in (lay(tmp_path / "it", files), pack(tmp_path / "packed" / "it", files)):
        with pytest.raises(PackageError, match=message) as told:
            open_model(source)
        assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("model/model_9.pb", (1 << 30) + 1, "model/model_9.pb of it is larger than 1024 MiB"),
        (
            "model/9_Step-23456.ckpt.data-00000-of-00001",
            (1 << 30) + 1,
            r"data-00000-of-00001 of it is larger than 1024",
        ),
        ("training_params.yaml", (10 << 20) + 1, "training_params.yaml of it is larger than 10 MiB"),
        ("model_metadata.json", (10 << 20) + 1, "model_metadata.json of it is larger than 10 MiB"),
    ],
)
def test_files_that_are_too_large_are_refused(name: str, size: int, message: str, tmp_path: Path) -> None:
    folder = lay(tmp_path / "it", without("model/model_9.pb") if "ckpt" in name else WHOLE)
    os.truncate(folder / name, size)
    with pytest.raises(PackageError, match=message):
        open_model(folder)


# Hostile


def test_what_is_not_there_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="There is no file"):
        open_model(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["model/model_9.pb", "model", "elsewhere"])
def test_links_in_a_folder_are_refused(name: str, tmp_path: Path) -> None:
    folder = lay(tmp_path / "folder", {name: data for name, data in WHOLE.items() if name != "model/model_9.pb"})
    if name == "model":
        (folder / name).rename(tmp_path / "model")
    (folder / name).symlink_to(tmp_path / "model")
    with pytest.raises(PackageError, match="is a link"):
        open_model(folder)


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname = kind, target
    return found


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (member("model/model_9.pb", tarfile.SYMTYPE, "/etc/passwd"), "is a link or a device"),
        (member("model/model_9.pb", tarfile.LNKTYPE, "reward_function.py"), "is a link or a device"),
        (member("model", tarfile.CHRTYPE), "is a link or a device"),
        (member("../model_metadata.json"), "outside its own folder"),
        (member("model/../../model_metadata.json"), "outside its own folder"),
        (member("/model_metadata.json"), "outside its own folder"),
        (member("model/.coach_checkpoint"), "holds 'model/.coach_checkpoint' twice"),
    ],
)
def test_archives_that_reach_elsewhere_are_refused(entry: tarfile.TarInfo, message: str, tmp_path: Path) -> None:
    content = io.BytesIO(archive(WHOLE, packed=False))
    with tarfile.open(fileobj=content, mode="a") as tar:
        tar.addfile(entry)
    (tmp_path / "it.tar").write_bytes(content.getvalue())
    with pytest.raises(PackageError, match=message):
        open_model(tmp_path / "it.tar")


SMALL = {
    "model_metadata.json": WHOLE["model_metadata.json"],
    "model/.coach_checkpoint": b"12_Step-34567.ckpt",
    "model/model_12.pb": WHOLE["model/model_12.pb"][:2000],
    "ip/hyperparameters.json": b'{"lr": 0.0003}',
    "training_params.yaml": WHOLE["training_params.yaml"],
}


def test_an_archive_that_swells_is_refused(tmp_path: Path) -> None:
    pack(tmp_path / "it.tar.gz", SMALL | {"video.mp4": b"\0" * (32 << 20)})
    with pytest.raises(PackageError, match="unpacks to more than"):
        open_model(tmp_path / "it.tar.gz")


@given(data=st.data())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_files_and_archives_are_refused(data: st.DataObject, tmp_path: Path) -> None:
    files = dict(SMALL)
    name = data.draw(st.sampled_from(sorted(files)))
    files[name] = damaged(files[name], data.draw)
    packed = archive(files, packed=False)
    (tmp_path / "it.tar").write_bytes(packed if data.draw(st.booleans()) else damaged(packed, data.draw))
    with pytest.raises((PackageError, JobError)):
        open_model(tmp_path / "it.tar")


def damaged(content: bytes, draw: Callable[[st.SearchStrategy[int]], int]) -> bytes:
    whole = bytearray(content)
    place = draw(st.integers(0, len(whole) - 1))
    if draw(st.integers(0, 2)):
        whole[place] ^= draw(st.integers(1, 255))
    else:
        del whole[place:]
    return bytes(whole)


# A real one


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the console and the community's tools lay it, around a model that the original trained."""
    if not SAMPLE.exists():
        pytest.skip(f"the reference data is not beside the project ({SAMPLE})")
    folder = tmp_path_factory.mktemp("stock")
    with tarfile.open(SAMPLE) as tar:
        held = {item.name: file.read() for item in tar if (file := tar.extractfile(item)) is not None}
    told = {"best_checkpoint": {"name": "15_Step-9000.ckpt", "avg_eval_metric": 42.0, "time_stamp": 1594399157.5}}
    files = {
        "model/.coach_checkpoint": b"20_Step-12000.ckpt",
        "model/deepracer_checkpoints.json": json.dumps(told).encode(),
        "model/model_15.pb": held["agent/model.pb"],
        "model_metadata.json": held["model_metadata.json"],
        "ip/hyperparameters.json": json.dumps(COMMUNITY).encode(),
        "reward_function.py": b"def reward_function(params):\n    return 1.0\n",
        "training_params.yaml": b"WORLD_NAME: 'reinvent_base'\nRACE_TYPE: 'TIME_TRIAL'\nAWS_REGION: 'us-east-1'\n",
    }
    return lay(folder, files)


def test_a_model_of_the_original_comes_over(stock: Path) -> None:
    imported = open_model(stock)
    job = read_job(imported.job)
    assert (job.agent.network, job.agent.version, job.agent.actions.outputs) == ("3-layer", "3", 12)
    assert (job.tracks, job.hyperparameters.num_epochs) == (("reinvent_base",), 5)
    ours, theirs = policy(job.agent, 1), policy(job.agent, 2)
    thaw(imported.graph, ours)
    thaw((stock / "model/model_15.pb").read_bytes(), theirs)
    assert all(torch.equal(one, other) for one, other in zip(ours.parameters(), theirs.parameters(), strict=True))
