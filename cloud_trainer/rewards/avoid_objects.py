"""Keep to one lane and away from what stands or drives in it: boxes, other cars.

The middle of either lane is worth most. The nearer the next object ahead is, the less the lane that it is in is worth;
the other one keeps its worth, so that changing lanes in time pays.
"""

import math

FAR = 1.5  # metres: from here on an object counts
NEAR = 0.4  # metres: here its lane is worth next to nothing


def reward_function(params):
    if params["is_crashed"] or not params["all_wheels_on_track"]:
        return 1e-3
    # How far from the middle of the lane, as a part of half a lane's width.
    quarter = 0.25 * params["track_width"]
    aside = (params["distance_from_center"] - quarter) / quarter
    lane = math.exp(-aside * aside)

    free = 1.0
    if params["objects_location"]:
        ahead = params["closest_objects"][1]
        x, y = params["objects_location"][ahead]
        gap = math.hypot(x - params["x"], y - params["y"])
        if params["objects_left_of_center"][ahead] == params["is_left_of_center"]:
            free = min(max((gap - NEAR) / (FAR - NEAR), 0.05), 1.0)
    pace = min(params["speed"] / 4.0, 1.0)
    return 1e-3 + lane * free * (0.8 + 0.2 * pace)
