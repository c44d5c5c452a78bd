"""No zig-zag: keep to the middle of the road, point where it points, and steer no more than it bends.

What a car did a step ago is not remembered: the calls of several cars may come in any order. The road itself tells how
much steering is called for.
"""

import math

AHEAD = 4  # waypoints, about 0.6 m


def direction(start, end):
    """Degrees, from one point to another."""
    return math.degrees(math.atan2(end[1] - start[1], end[0] - start[0]))


def between(first, second):
    """Degrees from one direction to another, -180 to 180."""
    return (second - first + 180.0) % 360.0 - 180.0


def reward_function(params):
    if params["is_crashed"] or params["is_offtrack"]:
        return 1e-3
    waypoints = params["waypoints"]
    behind, ahead = params["closest_waypoints"]
    here = direction(waypoints[behind], waypoints[ahead])
    # The last waypoint of a lap repeats the first: skip it, or its direction would be none.
    last = len(waypoints) - 1
    there = direction(waypoints[(ahead + AHEAD) % last], waypoints[(ahead + AHEAD + 1) % last])

    aside = params["distance_from_center"] / (0.5 * params["track_width"])
    closeness = math.exp(-2.0 * aside * aside)
    alignment = max(math.cos(math.radians(between(here, params["heading"]))), 0.0)
    needless = max(abs(params["steering_angle"]) - abs(between(here, there)), 0.0) / 30.0
    calm = 1.0 / (1.0 + 4.0 * needless * needless)
    return 1e-3 + closeness * alignment * calm
