"""Policy: what decides; and the one that runs a package's network in OpenVINO."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from drivers.signals import Action, Observation
from inference.actions import OutputError
from inference.features import HEIGHT, WIDTH, SensorMissing, feature
from inference.package import ModelPackage, PackageError, Sensor

__all__ = ["OpenVinoPolicy", "OutputError", "Policy", "SensorMissing", "runtime_version"]


def runtime_version() -> str:
    """OpenVINO's, without its build."""
    return str(ov.get_version()).partition("-")[0]


class Policy(Protocol):
    def decide(self, observation: Observation) -> Action:
        """The wish for what is seen. Called from one thread. May raise anything; whoever calls stops the car then."""
        ...


class OpenVinoPolicy:
    """A package's network, compiled for `device` (CPU, GPU, AUTO).

    TensorFlow frozen graphs, ONNX and IR are read by OpenVINO itself. `cache` keeps what was compiled, so that the
    next load is quick. Raises PackageError when the network cannot be read or does not fit its metadata.
    """

    def __init__(self, package: ModelPackage, device: str = "CPU", cache: Path | None = None) -> None:
        self.package = package
        core = ov.Core()
        if cache is not None:
            core.set_property({"CACHE_DIR": str(cache)})
        options: dict[str, str] = {"PERFORMANCE_HINT": "LATENCY"}
        if device == "CPU":
            options["INFERENCE_PRECISION_HINT"] = "f32"
        try:
            model = core.read_model(package.graph)
            if not model.outputs:
                raise PackageError(f"The model of {package.name} answers nothing.")
            matched = _match(model, package)
            model.reshape({port: [1, *list(port.get_partial_shape())[1:]] for port in model.inputs})
            compiled = core.compile_model(model, device, options)
        except (RuntimeError, UnicodeError) as error:  # the latter: names in it are no text
            raise PackageError(f"OpenVINO cannot read the model of {package.name}: {_gist(error)}.") from error
        # By place, not by name: where compiling drops a node, a port goes by that node's name as well.
        self._inputs = [_Input(port, *fit, package) for port, fit in zip(compiled.inputs, matched, strict=True)]
        self._output = compiled.outputs[0]
        answers = list(self._output.get_partial_shape())
        wanted = package.metadata.action_space.outputs
        if len(answers) != 2 or not answers[0].compatible(ov.Dimension(1)) or answers[1] != wanted:
            raise PackageError(
                f"The model of {package.name} answers with shape {self._output.get_partial_shape()}, "
                f"but its action space has {wanted} values."
            )
        self._request = compiled.create_infer_request()

    def decide(self, observation: Observation) -> Action:
        """The wish for what is seen. Raises OutputError or SensorMissing."""
        return self.package.metadata.action_space.action(self.infer(observation))

    def infer(self, observation: Observation) -> NDArray[np.float32]:
        """float32[n]: what the network answers. Raises SensorMissing."""
        for place, entry in enumerate(self._inputs):
            self._request.set_input_tensor(place, ov.Tensor(entry.tensor(observation)))
        self._request.infer()
        return np.array(self._request.get_output_tensor(0).data[0], np.float32)


class _Input:
    """One input of the network: which sensor feeds it, at what size, in which order of axes."""

    def __init__(self, port: ov.ConstOutput, name: str, sensor: Sensor, package: ModelPackage) -> None:
        self.sensor = sensor
        self.lidar = package.metadata.lidar
        self.size = (WIDTH, HEIGHT)
        self.planar = False
        shape = port.get_partial_shape()
        if shape.is_dynamic or port.get_element_type() != ov.Type.f32:
            raise PackageError(f"Input {name} of {package.name} must be float32 of a fixed shape, not {shape}.")
        sizes = tuple(shape.to_shape())
        if not sensor.is_lidar:
            self.planar = len(sizes) == 4 and sizes[1] == sensor.cameras and sizes[3] != sensor.cameras
            height, width, channels = (sizes[2], sizes[3], sizes[1]) if self.planar else (*sizes[1:], 0, 0, 0)[:3]
            if len(sizes) != 4 or channels != sensor.cameras or not 0 < height * width <= 1 << 22:
                raise PackageError(f"Input {name} of {package.name} has shape {sizes}, which {sensor.value} never has.")
            self.size = (width, height)
        elif len(sizes) != 2:
            raise PackageError(f"Input {name} of {package.name} has shape {sizes}, which {sensor.value} never has.")
        self.shape = sizes

    def tensor(self, observation: Observation) -> NDArray[np.float32]:
        values = feature(self.sensor, observation, self.lidar, self.size)
        if self.planar:
            values = np.ascontiguousarray(values.transpose(0, 3, 1, 2))
        if values.shape != self.shape:
            raise OutputError(f"{self.sensor.value} gives shape {values.shape}, the model takes {self.shape}.")
        return values


def _match(model: ov.Model, package: ModelPackage) -> list[tuple[str, Sensor]]:
    """Each input's name and the sensor that feeds it; the order of `sensor` in the metadata means nothing."""
    names = [port.get_any_name() for port in model.inputs]
    if len(names) == len(package.sensors) == 1:
        return [(names[0], package.sensors[0])]
    matched: list[tuple[str, Sensor]] = []
    for name in names:
        fits = [sensor for sensor in package.sensors if sensor.value in name.split("/")]
        fits = fits or [sensor for sensor in package.sensors if sensor.value in name]
        if len(fits) != 1:
            raise PackageError(f"Input {name} of {package.name} belongs to none of its sensors.")
        matched.append((name, fits[0]))
    if sorted(sensor for _, sensor in matched) != sorted(package.sensors):
        raise PackageError(f"{package.name} names sensors that its model has no input for.")
    return matched


def _gist(error: Exception) -> str:
    """The last sentence of OpenVINO's report: what went wrong, without where in its source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and "Please check that model format" in lines[-1]:
        return "the file is damaged, or of another kind than its name says"
    return (lines[-1] if lines else type(error).__name__)[:200].rstrip(".")
