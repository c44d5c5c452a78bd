"""What a car's cameras see: lenses, films, things that stand on the ground, and the eyes that draw them in batches."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sim_stub import film as films
from sim_stub import raster
from sim_stub.dynamics import YAW, X, Y
from sim_stub.film import Film as Film
from sim_stub.scene import WALL_HEIGHT, Image, Scene
from sim_stub.track import RGB

_log = logging.getLogger(__name__)

Floats: TypeAlias = NDArray[np.float64]
Boxes: TypeAlias = Floats
"""float64[batch, n, 8], what stands on the ground: x and y of its centre (m), yaw (rad), half its length along the yaw,
half its width, its height, its bottom above the ground (m), and its colour as `rgb` packs it. NaN or 0 as height means
that it is not there. They are drawn from the farthest centre to the nearest and must not cut one another; of boxes with
the same centre, one upon the other, the lower comes first."""

RIDE_HEIGHT: Final = -0.0010
"""Metres from the ground to the car's origin, which lies 23.2 mm below the chassis and so a little under ground."""
CARDBOARD: Final[RGB] = (123, 97, 79)
"""The colour of the boxes that stand in a car's way."""
CHUNK: Final = 32
"""Cars that a thread draws at a time, at most."""
FEW: Final = 4
"""Cars for which one more thread is worth its wake-up."""


@dataclass(frozen=True, slots=True)
class Lens:
    """A pinhole camera on the car: metres from the car's origin, radians; pitch is positive downwards.

    Both are as it is mounted on the car, which itself may lean back. `samples` are rays a pixel along each axis.
    """

    width: int = 160
    height: int = 120
    field_of_view: float = 1.13
    ahead: float = 0.14529379
    left: float = 0.0
    up: float = 0.13032555
    pitch: float = 0.2618
    samples: int = 2

    @property
    def focal(self) -> float:
        """Focal length in pixels."""
        return float(self.width / 2 / np.tan(self.field_of_view / 2))


MONO: Final[tuple[Lens, ...]] = (Lens(),)
STEREO: Final[tuple[Lens, ...]] = (Lens(left=0.03), Lens(left=-0.03))
"""The left camera is first."""


def rgb(colour: RGB) -> float:
    """A colour, 0..255 each, as a box holds it."""
    red, green, blue = colour
    return float(red << 16 | green << 8 | blue)


class Eye:
    """Lenses of one size that look at one scene, from cars that lean back by `lean` (rad; see dynamics.Profile).

    They look on as many threads as the process has cores unless told otherwise.

    What an eye sees depends neither on the batch nor on the threads. The first eye of an installation compiles for some
    seconds; the outcome is kept beside the source.
    """

    def __init__(
        self, scene: Scene, lenses: tuple[Lens, ...] | Lens, lean: float = 0.0, threads: int | None = None
    ) -> None:
        self.scene = scene
        self.lenses = (lenses,) if isinstance(lenses, Lens) else lenses
        self.threads = threads or len(os.sched_getaffinity(0))
        if len({(lens.width, lens.height, lens.samples) for lens in self.lenses}) != 1:
            raise ValueError("The lenses of an eye must give pictures of one size, with the same samples a pixel.")
        self._lenses = np.array([_figures(lens, lean) for lens in self.lenses])
        self._world = np.array([*scene.extent, *scene.scale, *scene.size, WALL_HEIGHT])
        _ready(raster.prepare)

    def shape(self, batch: int) -> tuple[int, ...]:
        """The shape of what `look` returns."""
        lens, cameras = self.lenses[0], len(self.lenses)
        if self.scene.planes == 1:
            return batch, lens.height, lens.width, cameras
        return batch, cameras, lens.height, lens.width, 3

    def look(
        self,
        state: Floats,
        boxes: Boxes | None = None,
        film: Film | None = None,
        frame: int | NDArray[np.int64] = 0,
        out: Image | None = None,
        cars: NDArray[np.intp] | None = None,
    ) -> Image:
        """What each car sees: uint8[batch, height, width, cameras] grey, or [batch, cameras, height, width, 3] BGR.

        `state` float64[batch, 3 or more] has each car's origin and yaw in columns X, Y and YAW; `frame` int or
        int64[batch] numbers the pictures. `out`, if given, is written in place and returned; its strides may be any.
        With `cars` only these look, and the others' pictures stay as they are.
        Raises ValueError if the shapes do not fit or the scene lacks a palette.
        """
        batch = len(state)
        film = film or Film.neutral(batch)
        boxes = np.zeros((batch, 0, 8)) if boxes is None else np.array(boxes, np.float64, order="C")
        out = np.empty(self.shape(batch), np.uint8) if out is None else out
        errors = np.stack([film.pitch, film.yaw, film.up, film.ahead, film.left], axis=1)
        exposure = np.stack([film.gain, film.lift, film.blur, film.noise], axis=1)
        plain = bool((exposure == [1.0, 0.0, 0.0, 0.0]).all())
        palettes = np.array(film.palette, np.int64)
        if out.shape != self.shape(batch) or out.dtype != np.uint8:
            raise ValueError(f"The pictures are uint8{list(self.shape(batch))}, not {out.dtype}{list(out.shape)}.")
        if not len(errors) == len(film.glare) == len(film.seed) == len(palettes) == len(boxes) == batch:
            raise ValueError(f"Film and boxes must have a row for each of the {batch} cars.")
        if batch and not 0 <= palettes.min() <= palettes.max() < len(self.scene.texels):
            raise ValueError(f"The scene has {len(self.scene.texels)} palettes.")
        poses = np.array(state[:, [X, Y, YAW]], np.float64, order="C")
        glare, seeds = np.array(film.glare, np.float64, order="C"), np.array(film.seed, np.uint64)
        frames = np.full(batch, frame, np.int64)
        scene = self.scene
        world = (scene.texels, scene.levels, self._world, scene.plain, scene.tint)
        pictures = out.transpose(0, 3, 1, 2)[:, :, None] if scene.planes == 1 else out.transpose(0, 1, 4, 2, 3)

        def draw(cars: NDArray[np.int64]) -> None:
            raster.draw(pictures, cars, poses, self._lenses, errors, boxes, glare, palettes, *world)
            if not plain:
                films.develop(pictures, cars, exposure, seeds, frames)

        if not plain:
            _ready(films.prepare)
        looking = np.arange(batch) if cars is None else np.asarray(cars, np.int64)
        parts = max(-(-len(looking) // CHUNK), min(self.threads, len(looking) // FEW))
        if self.threads == 1 or parts <= 1:
            draw(looking)
        else:
            list(_pool(self.threads).map(draw, np.array_split(looking, parts)))
        return out


def _figures(lens: Lens, lean: float) -> tuple[float, ...]:
    """A row of raster's table of lenses."""
    cos, sin = np.cos(lean), np.sin(lean)
    ahead, up = lens.ahead * cos - lens.up * sin, RIDE_HEIGHT + lens.up * cos + lens.ahead * sin
    return lens.width, lens.height, lens.focal, ahead, lens.left, up, lens.pitch - lean, lens.samples


_compiling = threading.Lock()
_compiled: set[Callable[[], None]] = set()


def _ready(prepare: Callable[[], None]) -> None:
    """Compile what is not compiled yet, once at a time, and say why it takes so long if it does."""
    if prepare in _compiled:
        return
    why = "Compiling the simulator's camera, once for all; this takes about 20 seconds."
    patience = threading.Timer(2.0, _log.warning, (why,))
    with _compiling:
        patience.start()
        try:
            prepare()
            _compiled.add(prepare)
        finally:
            patience.cancel()


_pools: dict[int, ThreadPoolExecutor] = {}
# A forked child has none of its parent's threads.
os.register_at_fork(after_in_child=_pools.clear)


def _pool(threads: int) -> ThreadPoolExecutor:
    return _pools.setdefault(threads, _pools.get(threads) or ThreadPoolExecutor(threads, "eye"))
