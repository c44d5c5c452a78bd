"""How fast the simulated cameras draw, and, in the same run, how fast other simulators make a step with a picture.

python -m bench.render [--peers PYTHON] [--seconds S]

PYTHON is an interpreter that has envpool and gymnasium[box2d]: its CarRacing (96 x 96 rgb) is the peer, as fast as it
goes on two cores: EnvPool with 16 environments in batches of 8 on 2 threads, Gymnasium in two processes. Ours draws
160 x 120 with 4 samples a pixel. Rounds of all alternate, so that whatever else the machine does meets all; the figures
are the best round of each.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from collections.abc import Callable
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim_stub import track as tracks
from sim_stub.dynamics import YAW, X, Y
from sim_stub.scene import Scene
from sim_stub.track import Track
from sim_stub.view import CARDBOARD, MONO, STEREO, Eye, Film, rgb

BATCH: Final = 256
ROUNDS: Final = 5

ENVPOOL: Final = """
import sys, time, envpool, numpy as np
env = envpool.make_gym("CarRacing-v3", num_envs=16, batch_size=8, num_threads=2, seed=1)
rng = np.random.default_rng(0)
env.async_reset()
steps, end = 0, 0.0
while not end or time.perf_counter() < end:
    info = env.recv()[-1]
    env.send(rng.uniform((-1, 0, 0), (1, 1, 0.2), (8, 3)).astype(np.float32), info["env_id"])
    steps += 8
    if not end and steps >= 160:
        steps, begun = 0, time.perf_counter()
        end = begun + float(sys.argv[1])
print(steps / (time.perf_counter() - begun))
"""
GYMNASIUM: Final = """
import sys, time, gymnasium
env = gymnasium.make("CarRacing-v3")
env.reset(seed=1)
steps, begun = 0, time.perf_counter()
while time.perf_counter() - begun < float(sys.argv[1]):
    _, _, ended, cut, _ = env.step(env.action_space.sample())
    steps += 1
    if ended or cut:
        env.reset()
print(steps / (time.perf_counter() - begun))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", metavar="PYTHON")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each figure in each round")
    options = parser.parse_args()
    contests = _contests()
    best = dict.fromkeys(contests, 0.0)
    peers: dict[str, float | None] = {"envpool": None, "gymnasium": None}
    for _ in range(ROUNDS):
        for name, (work, frames) in contests.items():
            best[name] = max(best[name], _rate(work, frames, options.seconds))
        if options.peers:
            peers["envpool"] = max(peers["envpool"] or 0.0, _peer(options.peers, ENVPOOL, 1, options.seconds))
            peers["gymnasium"] = max(peers["gymnasium"] or 0.0, _peer(options.peers, GYMNASIUM, 2, options.seconds))
    for name, drawn in best.items():
        print(f"{name:28} {drawn:9.0f} frames a second   {drawn / best['grey, 2 threads']:.2f}")
    ratios = {f"times_{name}": rate and round(best["grey, 2 threads"] / rate, 1) for name, rate in peers.items()}
    for name, rate in peers.items():
        print(f"{name:28} {rate or 0:9.0f} steps a second" if rate else f"{name:28} was not run (--peers)")
    figures = {name: round(rate) for name, rate in best.items()}
    print(
        json.dumps(
            {"frames_a_second": figures, **{name: rate and round(rate) for name, rate in peers.items()}, **ratios}
        )
    )


def _contests() -> dict[str, tuple[Callable[[], object], int]]:
    """What to call, and how many frames that draws, by name."""
    base = tracks.load("reinvent_base")
    long = Track("long", "90 m", 5 * base.centre, 5 * base.inner, 5 * base.outer)
    grey, colour, stretched = Scene(base, planes=1), Scene(base), Scene(long, planes=1)
    state, far = _spread(base), _spread(long)
    one, two = Eye(grey, MONO, threads=1), Eye(grey, MONO, threads=2)
    boxes = _boxes(base)
    return {
        "grey, 2 threads": (partial(two.look, state), BATCH),
        "grey, 1 thread": (partial(one.look, state), BATCH),
        "grey, 1 car": (partial(one.look, state[:1]), 1),
        "grey, 1 thread, 90 m track": (partial(Eye(stretched, MONO, threads=1).look, far), BATCH),
        "grey, 2 threads, 90 m track": (partial(Eye(stretched, MONO, threads=2).look, far), BATCH),
        "grey, 2 threads, 6 boxes": (partial(two.look, state, boxes), BATCH),
        "grey, 2 threads, all films": (partial(two.look, state, None, _film(state)), BATCH),
        "stereo, 2 threads": (partial(Eye(grey, STEREO, threads=2).look, state), BATCH),
        "colour, 2 threads": (partial(Eye(colour, MONO, threads=2).look, state), BATCH),
        "colour, 1 car": (partial(Eye(colour, MONO, threads=1).look, state[:1]), 1),
    }


def _spread(track: Track) -> NDArray[np.float64]:
    """Cars all along the track."""
    state = np.zeros((BATCH, 3))
    place, state[:, YAW] = track.place(np.arange(BATCH) / BATCH * track.length)
    state[:, [X, Y]] = place
    return state


def _boxes(track: Track) -> NDArray[np.float64]:
    """Six boxes spread over the track, the same before each car."""
    place, heading = track.place((np.arange(6) + 0.5) / 6 * track.length)
    boxes = np.zeros((6, 8))
    boxes[:, :2], boxes[:, 2] = place, heading
    boxes[:, 3:] = (0.12, 0.195, 0.27, 0.0, rgb(CARDBOARD))
    return np.repeat(boxes[None], BATCH, axis=0)


def _film(state: NDArray[np.float64]) -> Film:
    """Everything that may disturb a picture."""
    film = Film.neutral(BATCH)
    film.gain[:], film.lift[:], film.blur[:], film.noise[:], film.pitch[:] = 1.2, -5.0, 0.5, 6.0, 0.01
    ahead = np.stack([np.cos(state[:, YAW]), np.sin(state[:, YAW])], axis=1)
    middle = state[:, [X, Y]] + ahead
    film.glare = np.concatenate([middle, np.full((BATCH, 2), (0.3, 60.0))], axis=1)[:, None]
    return film


def _rate(work: Callable[[], object], frames: int, seconds: float) -> float:
    """Frames a second over that time, after one call that does not count."""
    work()
    calls, began = 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < seconds:
        work()
        calls += 1
    return calls * frames / spent


def _peer(python: str, program: str, processes: int, seconds: float) -> float:
    """Steps a second of all processes of a peer together."""
    command = [python, "-W", "ignore", "-c", program, str(seconds)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    return sum(float(process.communicate()[0].split()[-1]) for process in running)


if __name__ == "__main__":
    main()
