"""Drive fast, and near the middle of the road: what the sample model was rewarded for at first."""

import math


def reward_function(params):
    if params["is_crashed"] or params["is_offtrack"]:
        return 1e-3
    aside = params["distance_from_center"] / (0.5 * params["track_width"])
    return 1e-3 + math.exp(-2.0 * aside * aside) * (params["speed"] - 1.0)
