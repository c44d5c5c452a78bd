"""The simulator as reinforcement learning knows it: `hotlap/Race-v0` for Gymnasium, and a vector of races in one.

Importing this module registers the environment; `gymnasium.make("sim_stub.env:hotlap/Race-v0")` imports it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, SupportsFloat, TypeAlias

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from inference.actions import ContinuousActions, DiscreteActions
from inference.features import HEIGHT, WIDTH, encode
from inference.package import LIDAR_DEFAULTS, LidarConfig, Sensor
from sim_stub import lidar
from sim_stub import track as tracks
from sim_stub.above import Above
from sim_stub.dynamics import Command, Profile, profile_for
from sim_stub.parameters import COLUMN, as_dict
from sim_stub.race import Race, Status
from sim_stub.randomisation import PALETTES, Randomisation, read_randomisation
from sim_stub.rules import Rules, RulesError, read_rules
from sim_stub.scene import Scene
from sim_stub.track import Track
from sim_stub.view import MONO, STEREO, Eye

Reward: TypeAlias = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Rewards float64[n] for rows float64[n, width] of parameters; see sim_stub.parameters."""
Pictures: TypeAlias = dict[str, NDArray[Any]]

ACTIONS: Final = ContinuousActions(steering_deg=(-30.0, 30.0), speed=(1.0, 2.0))
LIDAR: Final = LidarConfig(max_distance=1.0)
"""In training the original clips at a metre. Say so in a package's lidar_config: without one, the car clips at half."""
LIDARS: Final = LIDAR_DEFAULTS | {Sensor.LIDAR: LIDAR}


class Races(VectorEnv[Pictures, NDArray[Any], NDArray[Any]]):
    """`num_envs` races at once; what each of them is stands in RaceEnv.

    The arrays that `reset` and `step` return are the environment's own and are written over by the next call: copy what
    you want to keep. A race that ends begins anew in the same step; its last observation is a copy in
    info["final_obs"], its Run in info["run"], both at the indices where info["_run"] is true.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 - gymnasium's own form
        "autoreset_mode": AutoresetMode.SAME_STEP,
        "render_modes": ["rgb_array"],
        "render_fps": 15,
    }

    def __init__(
        self,
        num_envs: int,
        track: str | Track = "reinvent_base",
        *,
        actions: ContinuousActions | DiscreteActions = ACTIONS,
        sensors: Sequence[Sensor | str] = (Sensor.FRONT_FACING_CAMERA,),
        lidar_config: LidarConfig | None = None,
        rules: Rules | Mapping[str, Any] | None = None,
        version: str = "5",
        profile: Profile | None = None,
        randomisation: str | Mapping[str, Any] | Randomisation = "none",
        reward: Reward | None = None,
        seed: int = 0,
        threads: int | None = None,
        pictures: bool = True,
    ) -> None:
        """Raises RulesError or TrackError. `profile` stands before `version`. Without `pictures` nothing is drawn."""
        self.track = tracks.load(track) if isinstance(track, str) else track
        self.rules = rules if isinstance(rules, Rules) else read_rules(rules or {})
        self.actions = actions
        self.sensors = _sensors(sensors)
        self.reward = reward or self._progress_made
        self.randomisation = chance = read_randomisation(randomisation)
        self.profile = profile or profile_for(version)
        self.num_envs = num_envs
        self.race = self._race(seed)
        self._drawn = pictures
        self._frame = 0
        palettes = PALETTES if chance.lights else 1
        stereo = Sensor.STEREO_CAMERAS in self.sensors
        scene = Scene(self.track, planes=1, palettes=palettes, spread=chance.lights)
        self._eye = Eye(scene, STEREO if stereo else MONO, self.profile.lean, threads)
        self._camera = next(sensor for sensor in self.sensors if not sensor.is_lidar)
        self._lidar = next((sensor for sensor in self.sensors if sensor.is_lidar), None)
        shapes: dict[str, spaces.Space[Any]] = {
            self._camera: spaces.Box(0, 255, (HEIGHT, WIDTH, self._camera.cameras), np.uint8)
        }
        self.observations: Pictures = {
            self._camera: np.zeros((num_envs, HEIGHT, WIDTH, self._camera.cameras), np.uint8)
        }
        if self._lidar:
            self.lidar_config = lidar_config or LIDARS[self._lidar]
            config = self.lidar_config
            self._angles = np.radians(np.linspace(config.min_angle, config.max_angle, config.num_values))
            self._ranges = np.zeros((num_envs, config.num_values), np.float32)
            high = min(config.max_distance, config.clipping_distance) if self._lidar is Sensor.LIDAR else 1.0
            values = encode(self._lidar, self._ranges, config)
            shapes[self._lidar] = spaces.Box(0.0, high, values.shape[1:], np.float32)
            self.observations[self._lidar] = values
        self.single_observation_space = spaces.Dict(shapes)
        self.single_action_space: spaces.Space[Any] = (
            spaces.Discrete(actions.outputs)
            if isinstance(actions, DiscreteActions)
            else spaces.Box(-1.0, 1.0, (2,), np.float32)
        )
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._rewards = np.zeros(num_envs)
        self._before = np.zeros(num_envs)
        self._above: Above | None = None
        self.render_mode = "rgb_array"

    def _race(self, seed: int) -> Race:
        return Race(self.track, self.rules, self.profile, self.num_envs, seed=seed, randomisation=self.randomisation)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Pictures, dict[str, Any]]:
        """All races anew; with a seed, and at first, from their very first episode, else from the next."""
        if isinstance(seed, int | np.integer):
            self.race = self._race(int(seed))
        elif seed is not None:
            fresh = {world: np.random.default_rng(number) for world, number in enumerate(seed) if number is not None}
            self.race.reset(rngs=fresh)
        elif self._frame:
            self.race.reset()
        self._before[:] = 0.0
        self.look()
        return self.observations, {}

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[Pictures, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        race = self.race
        wish = commands(self.actions, actions)
        rows = race.judge(wish)
        self._rewards[:] = self.ask(rows)
        race.drive(wish)
        truncated = race.done & (race.status == Status.TIME_UP)
        terminated = race.done & ~truncated
        info: dict[str, Any] = {"status": race.status}
        ended = np.flatnonzero(race.done)
        if len(ended):
            info |= self._end(ended)
        self.look()
        return self.observations, self._rewards, terminated, truncated, info

    def _end(self, ended: NDArray[np.intp]) -> dict[str, Any]:
        """Their last observations and runs, kept; then they begin anew."""
        last = np.empty(self.num_envs, object)
        runs = np.empty(self.num_envs, object)
        mask = np.zeros(self.num_envs, np.bool_)
        for world in ended.tolist():
            # Whose run is over did not move: what it saw last is what there is to see.
            last[world] = {name: values[world].copy() for name, values in self.observations.items()}
            runs[world] = self.race.runs[world]
        mask[ended] = True
        status = self.race.status.copy()
        self._before[ended] = 0.0
        self.race.reset(ended.tolist())
        return {"status": status, "final_obs": last, "_final_obs": mask, "run": runs, "_run": mask}

    def look(self, cars: NDArray[np.intp] | None = None) -> None:
        """Draw what every car sees, or these cars, into `observations`."""
        race = self.race
        self._frame += 1
        if self._drawn:
            out = self.observations[self._camera]
            self._eye.look(race.seen, race.solids, race.film, race.steps, out=out, cars=cars)
        if self._lidar:
            lidar.scan(race.seen, self._angles, race.field, race.solids, race.film.seed, race.steps, self._ranges)
            config = self.lidar_config
            reach = min(config.max_distance, config.clipping_distance)
            np.clip(self._ranges, config.min_distance, reach, out=self._ranges)
            self.observations[self._lidar][:] = encode(self._lidar, self._ranges, config)

    def ask(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """The rewards of a step's rows; to be asked for once a step."""
        rewards = self.reward(rows)
        progress = rows[:, COLUMN["progress"]]
        self._before[:] = np.where(progress >= 100, 0.0, progress)
        return rewards

    def _progress_made(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        return rows[:, COLUMN["progress"]] - self._before

    def render(self) -> tuple[NDArray[np.uint8], ...]:
        """RGB pictures from above, one a race."""
        if self._above is None:
            self._above = Above(self.track)
        return tuple(self._above.paint(self.race, world)[..., ::-1] for world in range(self.num_envs))


class RaceEnv(gym.Env[Pictures, Any]):
    """`hotlap/Race-v0`: a 1/18-scale car sees the road through its camera, and drives.

    **Action.** Continuous (the default): Box(-1, 1, (2,)), steering and speed, spanning the ranges of `actions`
    (-30..30 degrees, + left; 1..2 m/s). With DiscreteActions: Discrete(n), a row of its list.

    **Observation.** A dictionary with a key for each of `sensors`, by their stock names: FRONT_FACING_CAMERA,
    LEFT_CAMERA or observation uint8[120, 160, 1], STEREO_CAMERAS uint8[120, 160, 2], grey, left first; LIDAR
    float32[64] metres, SECTOR_LIDAR float32[8] and DISCRETIZED_SECTOR_LIDAR float32[64] of 0 and 1.

    **Reward.** The progress made since the last step, in per cent of a lap: about 100 for a clean lap. `reward` is
    another: a function of parameter rows (see sim_stub.parameters). It is asked about the place where the car is and
    the action just chosen there, before that action acts, as in the original.

    **Start.** At rest on the centre line, `start_position_offset` metres from the first waypoint; every episode further
    on, or in the other direction, when the rules say so.

    **End.** Terminated: lap complete (after `laps` of them), off the track with all four wheels, crashed, immobilized
    or reversed for 15 steps, once no resets are left. Truncated: after `max_steps`. The last action does not act.

    **Arguments.** `track`: a name of sim_stub.track.names(), or the path of a .npy route. `rules`: a mapping of the
    fields of sim_stub.rules.Rules: race type, obstacles, bots, direction, resets, rate (15 steps a second). `version`:
    of the model_metadata, 1..6, chooses the physics. `randomisation`: "none", "lights", "real-world", or strengths by
    name. `seed`: of the first reset without one.

    **Info.** "status": how the step found the car; "params": what a reward function is told, as a dictionary; at the
    end "run": laps and mistakes.

    **Versions.** v0: the first.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 15}  # noqa: RUF012 - gymnasium's form

    def __init__(self, track: str | Track = "reinvent_base", render_mode: str | None = None, **options: Any) -> None:
        self._races = Races(1, track, **options)
        self.observation_space = self._races.single_observation_space
        self.action_space = self._races.single_action_space
        self.render_mode = render_mode
        road = self._races.race.tracks
        self._waypoints = [[(x, y) for x, y in way.centre.tolist()] for way in road]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Pictures, dict[str, Any]]:
        super().reset(seed=seed)
        self._races.reset(seed=seed)
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Pictures, SupportsFloat, bool, bool, dict[str, Any]]:
        races = self._races
        wish = commands(races.actions, np.asarray(action)[None])
        row = races.race.judge(wish)
        reward = float(races.ask(row)[0])
        races.race.drive(wish)
        over = bool(races.race.done[0])
        status = Status(int(races.race.status[0]))
        reversed_now = bool(row[0, COLUMN["is_reversed"]])
        params = as_dict(row[0], self._waypoints[reversed_now], races.race.length)
        info: dict[str, Any] = {"status": status.label, "params": params}
        if over:
            info["run"] = races.race.runs[0]
        else:
            races.look()
        return self._seen(), reward, over and status is not Status.TIME_UP, over and status is Status.TIME_UP, info

    def _seen(self) -> Pictures:
        return {name: values[0].copy() for name, values in self._races.observations.items()}

    def render(self) -> NDArray[np.uint8]:
        return self._races.render()[0]


def commands(space: ContinuousActions | DiscreteActions, actions: NDArray[Any]) -> Command:
    """float64[n, 2], wheels (rad, + left) and speed (m/s), for indices [n], or for numbers [n, 2], clipped to -1..1."""
    if isinstance(space, DiscreteActions):
        table = np.array(space.choices) * [np.pi / 180, 1.0]
        return np.asarray(table[np.asarray(actions, np.intp)], np.float64)
    ends = np.array([np.radians(space.steering_deg), space.speed])
    part = (np.clip(np.asarray(actions, np.float64), -1.0, 1.0) + 1) / 2
    return np.asarray(ends[:, 0] + part * (ends[:, 1] - ends[:, 0]), np.float64)


def _sensors(names: Sequence[Sensor | str]) -> tuple[Sensor, ...]:
    known = ", ".join(Sensor)
    try:
        sensors = tuple(Sensor(name) for name in names)
    except ValueError as error:
        raise RulesError(f"sensors must be of {known}: {error}.") from None
    if sum(not sensor.is_lidar for sensor in sensors) != 1 or len(sensors) > 2:
        raise RulesError(f"sensors must be one camera and at most one LiDAR of {known}.")
    return sensors


gym.register(id="hotlap/Race-v0", entry_point="sim_stub.env:RaceEnv")
