"""The simulated chassis against traces of the original: where a second of their actions takes it from their state."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.motion import FIRST_ORDER, PROFILES, TRUST, drive, held_out, read

TRACES = Path(__file__).parents[3] / "shared" / "data" / "traces"
pytestmark = pytest.mark.skipif(not TRACES.is_dir(), reason=f"the reference data is not there: {TRACES}")


@pytest.mark.parametrize(
    ("folder", "median", "ninetieth"),
    [("console-v4", 0.050, 0.10), ("drfc-v5", 0.056, 0.11), ("droa-v6-continuous", 0.060, 0.13)],
)
def test_a_second_of_real_actions_ends_where_it_really_did(folder: str, median: float, ninetieth: float) -> None:
    episodes = held_out(read(TRACES / folder))
    apart = drive(episodes, PROFILES[folder], TRUST[folder]).distances()
    assert len(apart) > 600
    assert np.median(apart) < median
    assert np.percentile(apart, 90) < ninetieth
    assert np.median(apart) < 0.8 * np.median(drive(episodes, FIRST_ORDER[folder], TRUST[folder]).distances())


@pytest.mark.parametrize("folder", list(PROFILES))
def test_no_drive_knows_what_comes_after_its_start(folder: str) -> None:
    """Later rows moved by a metre move no drive that began before them: only actions and clocks are theirs to give."""
    episodes = [episode for episode in held_out(read(TRACES / folder)) if len(episode.clock) > 40][:1]
    before = drive(episodes, PROFILES[folder], TRUST[folder]).driven[0]
    episodes[0].pose[7:] += 1.0
    assert np.array_equal(before, drive(episodes, PROFILES[folder], TRUST[folder]).driven[0])
