"""Between a wish and a pulse: monotone, bounded, exact where it matters, and there and back."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.calibration import DEFAULT, LONGEST_NS, SHORTEST_NS, Calibration, CalibrationError, Channel
from drivers.signals import Action, ActuatorCommand

wishes = st.floats(-1, 1)
not_wishes = st.one_of(
    st.sampled_from([math.nan, math.inf, -math.inf, math.nextafter(1, 2), math.nextafter(-1, -2)]),
    st.floats(1, exclude_min=True),
    st.floats(max_value=-1, exclude_max=True),
)


@st.composite
def channels(draw: st.DrawFn) -> Channel:
    figures = draw(st.lists(st.integers(SHORTEST_NS, LONGEST_NS), min_size=3, max_size=3, unique=True))
    low, mid, high = sorted(figures)
    return Channel(low, mid, high, draw(st.sampled_from([1, -1])))


calibrations = st.builds(Calibration, channels(), channels())


@given(channels(), wishes, wishes)
def test_a_larger_wish_never_turns_back(channel: Channel, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert channel.pulse(low) * channel.polarity <= channel.pulse(high) * channel.polarity


@given(channels(), wishes)
def test_a_pulse_stays_between_the_ends(channel: Channel, wish: float) -> None:
    assert channel.min_ns <= channel.pulse(wish) <= channel.max_ns


@given(channels())
def test_ends_and_rest_are_exact(channel: Channel) -> None:
    ends = (channel.min_ns, channel.mid_ns, channel.max_ns)
    assert tuple(channel.pulse(wish * channel.polarity) for wish in (-1, 0, 1)) == ends
    assert tuple(channel.value(pulse) * channel.polarity for pulse in ends) == (-1, 0, 1)


@given(channels(), st.integers(0, 3_000_000))
def test_a_pulse_beyond_an_end_reads_as_that_end(channel: Channel, pulse: int) -> None:
    nearest = min(max(pulse, channel.min_ns), channel.max_ns)
    assert channel.value(pulse) == channel.value(nearest)
    assert -1 <= channel.value(pulse) <= 1


@given(calibrations, wishes, wishes)
def test_a_wish_goes_there_and_back(calibration: Calibration, steering: float, throttle: float) -> None:
    back = calibration.action(calibration.command(Action(steering, throttle)))
    assert abs(back.steering - steering) <= calibration.resolution
    assert abs(back.throttle - throttle) <= calibration.resolution


@given(channels(), st.data())
def test_a_pulse_goes_there_and_back(channel: Channel, data: st.DataObject) -> None:
    pulse = data.draw(st.integers(channel.min_ns, channel.max_ns))
    assert channel.pulse(channel.value(pulse)) == pulse


@given(calibrations, wishes, not_wishes)
def test_what_is_no_wish_is_refused(calibration: Calibration, wish: float, other: float) -> None:
    for action in (Action(wish, other), Action(other, wish)):
        with pytest.raises(CalibrationError, match=r"-1\.\.1"):
            calibration.command(action)


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ((1_500_000, 1_450_000, 1_700_000, 1), "min < mid < max"),
        ((1_450_000, 1_450_000, 1_700_000, 1), "min < mid < max"),
        ((1_200_000, 1_700_000, 1_700_000, 1), "min < mid < max"),
        ((1_700_000, 1_450_000, 1_200_000, 1), "min < mid < max"),
        ((SHORTEST_NS - 1, 1_450_000, 1_700_000, 1), "500000"),
        ((1_200_000, 1_450_000, LONGEST_NS + 1, 1), "2500000"),
        ((1_200_000, 1_450_000, 1_700_000, 0), "polarity must be 1 or -1, not 0"),
        ((1_200_000, 1_450_000, 1_700_000, 2), "polarity must be 1 or -1, not 2"),
        ((1_200_000.0, 1_450_000, 1_700_000, 1), "whole numbers, not .1200000.0"),
        ((1_200_000, "1450000", 1_700_000, 1), "whole numbers, not .*'1450000'"),
        ((1_200_000, 1_450_000, math.nan, 1), "whole numbers, not .*nan"),
        ((1_200_000, 1_450_000, 1_700_000, True), "whole numbers, not .*True"),
        ((1_200_000, 1_450_000, 1_700_000, None), "whole numbers, not .*None"),
    ],
)
def test_figures_that_make_no_channel_are_refused(figures: tuple[int, int, int, int], said: str) -> None:
    with pytest.raises(CalibrationError, match=said):
        Channel(*figures)


def test_a_refusal_stays_short_whatever_the_figures_are() -> None:
    with pytest.raises(CalibrationError) as refusal:
        Channel(1, 10**4000, 3, 1)
    assert len(str(refusal.value)) < 200


@pytest.mark.parametrize(
    ("action", "command"),
    [
        (Action(0, 0), ActuatorCommand(1_450_000, 1_446_000)),
        (Action(1, 1), ActuatorCommand(1_700_000, 1_311_000)),
        (Action(-1, -1), ActuatorCommand(1_200_000, 1_603_500)),
        (Action(0.5, 0.5), ActuatorCommand(1_575_000, 1_378_500)),
        (Action(-0.5, -0.5), ActuatorCommand(1_325_000, 1_524_750)),
    ],
)
def test_the_stock_car_steers_left_with_the_longer_and_drives_with_the_shorter_pulse(
    action: Action, command: ActuatorCommand
) -> None:
    assert DEFAULT.command(action) == command
    assert DEFAULT.action(command) == action
