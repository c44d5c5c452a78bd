"""Stay inside the borders: any line over the road is as good as another, as long as all four wheels are on it.

What is left to choose is the pace, and it pays; within a hand's breadth of the edge the marks shrink.
"""

EDGE = 0.15  # metres


def reward_function(params):
    if not params["all_wheels_on_track"] or params["is_crashed"]:
        return 1e-3
    room = 0.5 * params["track_width"] - params["distance_from_center"]
    safety = min(max(room / EDGE, 0.0), 1.0)
    pace = min(params["speed"] / 4.0, 1.0)
    return 1e-3 + safety * (0.5 + 0.5 * pace)
