"""How fast a policy decides, against a bare OpenVINO loop on the same graph in the same run; and how fast it loads.

python -m bench.inference PACKAGE [--decisions N]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import openvino as ov

from drivers.signals import Frame, Observation
from inference.package import ModelPackage, unpack
from inference.policy import OpenVinoPolicy

T = TypeVar("T")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package", type=Path)
    parser.add_argument("--decisions", type=int, default=2000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "package"
        home.mkdir()
        package = unpack(options.package, home)
        cold, _ = _timed(lambda: OpenVinoPolicy(package, cache=Path(folder) / "cache"))
        cached, policy = _timed(lambda: OpenVinoPolicy(package, cache=Path(folder) / "cache"))
        ours, bare = _race(policy, package, options.decisions)
    figures = {
        "decide_ms": _spread(ours),
        "bare_ms": _spread(bare),
        "ratio_p50": round(float(np.median(ours) / np.median(bare)), 3),
        "load_cold_s": round(cold, 3),
        "load_cached_s": round(cached, 3),
    }
    print(json.dumps(figures))


def _race(policy: OpenVinoPolicy, package: ModelPackage, count: int) -> tuple[list[float], list[float]]:
    """Seconds a decision, ours and bare, in turns, so that whatever else the machine does meets both."""
    model = ov.Core().read_model(package.graph)
    model.reshape([1, 120, 160, 1])
    compiled = ov.Core().compile_model(model, "CPU", {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"})
    request = compiled.create_infer_request()
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (120, 160, 3), dtype=np.uint8) for _ in range(16)]
    observations = [Observation(0.0, (Frame(0.0, picture),)) for picture in pictures]
    tensors = [np.ascontiguousarray(picture[None, :, :, :1], np.float32) for picture in pictures]
    ours, bare = [], []
    for k in range(count):
        ours.append(_timed(partial(policy.decide, observations[k % 16]))[0])
        bare.append(_timed(partial(request.infer, [tensors[k % 16]]))[0])
    return ours[count // 10 :], bare[count // 10 :]


def _timed(work: Callable[[], T]) -> tuple[float, T]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def _spread(seconds: list[float]) -> dict[str, float]:
    return {name: round(1000 * float(np.quantile(seconds, q)), 3) for name, q in (("p50", 0.5), ("p99", 0.99))}


if __name__ == "__main__":
    main()
