"""Bring over what a stock car remembers: its calibration, the colour of its tail light and its models."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from calibration import store as calibration_store
from calibration.calibration import CalibrationError
from drivers.disk import claim, write_atomically
from inference.package import PackageError
from vehicle import tail
from vehicle.models import ModelExists, ModelStore

DONE: Final = "stock_car_brought_over"
"""This file in the state folder says that it has been done: a model that was removed since does not come back."""


async def bring_over(stock: Path, state: Path) -> list[str]:
    """Take from `stock`, laid out as /opt/aws/deepracer, what the folder `state` does not have; one sentence for each.

    What cannot be used is told and left out. Done once: when it came to its end, another call does nothing. Raises
    OSError, as when the daemon is running or the disk is full.
    """
    with claim(state):
        if (state / DONE).exists():
            return ["All was brought over before."]
        said = [*_calibration(stock, state), *_colour(stock, state)]
        models = ModelStore(state)
        folders = sorted((stock / "artifacts").glob("*/"))
        said += [await _model(models, folder) for folder in folders if (folder / "model.pb").is_file()]
        write_atomically(state / DONE, b"")
        return said


def _calibration(stock: Path, state: Path) -> Iterator[str]:
    name = "calibration.json"
    if (stock / name).is_file() and not (state / name).exists():
        try:
            calibration_store.save(state / name, calibration_store.parse((stock / name).read_bytes()))
            yield "The calibration is the stock car's."
        except CalibrationError as error:
            yield f"The stock car's calibration is of no use: {error} Calibrate the car anew."


def _colour(stock: Path, state: Path) -> Iterator[str]:
    name = "led_values.json"
    if (stock / name).is_file() and not (state / name).exists():
        tail.save(state / name, tail.load(stock / name))
        yield "The tail light has the stock car's colour."


async def _model(models: ModelStore, folder: Path) -> str:
    try:
        return f"The model {(await models.add(folder, folder.name, replace=False)).name} is installed."
    except ModelExists:
        return f"The model {folder.name} was installed before."
    except PackageError as error:
        return f"The model {folder.name} is left out: {error}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m vehicle.stock_car", description=__doc__)
    parser.add_argument("stock", type=Path)
    parser.add_argument("state", type=Path)
    options = parser.parse_args(arguments)
    try:
        for sentence in asyncio.run(bring_over(options.stock, options.state)):
            print(sentence)
    except OSError as error:
        print(error.strerror or error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
