"""How many calls of a reward function a second: in this process, and in the box, for batches of several sizes.

python -m bench.reward [--calls N]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from cloud_trainer.box import load, maker
from cloud_trainer.confine import Confinement, confinement
from cloud_trainer.reward import WAYS, RewardWorker, Rows, example
from cloud_trainer.trial import trial_rows
from sim_stub.parameters import OBJECT, PAIRS, SCALARS
from sim_stub.track import load as load_track

BATCHES = (1, 16, 64, 256)
ROUNDS = 5
NUMPY = "import numpy as np\n\n\ndef reward_function(params):\n    return np.hypot(params['x'], params['y'])\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=20_000, help="for each figure (default 20,000)")
    options = parser.parse_args()
    centre = load_track("reinvent_base").centre
    route = [(float(x), float(y)) for x, y in centre]
    length = float(np.hypot(*np.diff(centre, axis=0).T).sum())
    source = example("centre_line")
    here = _in_process(source, route, length)
    figures: dict[str, Any] = {"waypoints": len(route)}
    for way in WAYS:
        if not isinstance(confinement(way), Confinement):
            continue
        figures[way] = {
            "start_ms": _start(source, route, length, way),
            "start_with_numpy_ms": _start(NUMPY, route, length, way),
        }
        with RewardWorker(source, route, length, ways=(way,), trust=True) as worker:
            for batch in BATCHES:
                rows = np.resize(trial_rows(0), (batch, trial_rows(0).shape[1]))
                # In turns, so that whatever else the machine does meets both.
                pairs = [[_rate(work, rows, options.calls // ROUNDS) for work in (here, worker)] for _ in range(ROUNDS)]
                ours, boxed = (float(np.median(rates)) for rates in zip(*pairs, strict=True))
                figures[way][f"batch_{batch}"] = {
                    "in_process_per_s": round(ours),
                    "in_box_per_s": round(boxed),
                    "ratio": round(boxed / ours, 3),
                }
        print(way, figures[way], flush=True)
    print(json.dumps(figures))


def _in_process(source: str, route: list[tuple[float, float]], length: float) -> Callable[[Rows], Rows]:
    """The same function without any wall, for comparison."""
    columns = {
        "scalars": [(name, kind.__name__) for name, kind in SCALARS],
        "pairs": PAIRS,
        "object": [(name, kind.__name__) for name, kind in OBJECT],
    }
    make = maker(columns, 0, {"waypoints": route, "reversed_waypoints": route, "track_length": length})
    function = load(source)
    return lambda rows: np.array([function(make(tuple(row))) for row in rows.tolist()])


def _rate(work: Callable[[Rows], Rows], rows: Rows, calls: int) -> float:
    repeats = max(calls // len(rows), 1)
    began = time.perf_counter()
    for _ in range(repeats):
        work(rows)
    return repeats * len(rows) / (time.perf_counter() - began)


def _start(source: str, route: list[tuple[float, float]], length: float, way: Any) -> float:
    """Milliseconds until the first reward: the median of five."""
    taken = []
    for _ in range(5):
        began = time.perf_counter()
        with RewardWorker(source, route, length, ways=(way,), trust=True) as worker:
            worker(trial_rows(0))
            taken.append(time.perf_counter() - began)
    return round(1000 * float(np.median(taken)), 1)


if __name__ == "__main__":
    main()
