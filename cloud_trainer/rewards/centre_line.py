"""Follow the centre line: full marks in the middle of the road, falling smoothly to almost none at its edge.

A fifth of each mark is paid for speed, so that of two cars on the line the faster one learns more.
"""

import math


def reward_function(params):
    if params["is_crashed"] or params["is_offtrack"]:
        return 1e-3
    # 0 on the line, 1 at the edge of the road.
    aside = params["distance_from_center"] / (0.5 * params["track_width"])
    closeness = math.exp(-3.0 * aside * aside)
    pace = min(params["speed"] / 4.0, 1.0)
    return 1e-3 + closeness * (0.8 + 0.2 * pace)
