"""Gauges: what the car measures of itself, as the latest samples."""

from __future__ import annotations

from collections import deque
from typing import Final

from vehicle.mailbox import Mailbox, Report
from vehicle.state import Latencies, Rates, Spread

SAMPLES: Final = 2048
"""Latest measurements that a spread is made of."""
RANKING: Final = 0.5


class Gauges:
    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._ticks = 0
        self._ranked_at, self._ranked = -RANKING, Latencies()
        self.pictures = 0
        self._picture_times: deque[float] = deque(maxlen=128)
        self._decision_times: deque[float] = deque(maxlen=128)
        self._inference: deque[float] = deque(maxlen=SAMPLES)
        self._lateness: deque[float] = deque(maxlen=SAMPLES)
        self._latency: deque[float] = deque(maxlen=SAMPLES)

    def saw(self, t: float) -> None:
        """The first camera's picture of that time has come."""
        self.pictures += 1
        self._picture_times.append(t)

    def decided(self, t: float, seconds: float) -> None:
        """The model has answered to what was seen at `t`; it took that many seconds."""
        self._decision_times.append(t)
        self._inference.append(seconds)

    def heard(self) -> Report | None:
        """The governor's latest report; call this a few times a second, the mailbox holds few samples."""
        report = self._mailbox.report()
        if report is not None and report.ticks > self._ticks:
            lateness, latency = self._mailbox.samples(report.ticks, self._ticks)
            self._lateness.extend(lateness)
            self._latency.extend(latency)
            self._ticks = report.ticks
        return report

    def rates(self, now: float) -> Rates:
        return Rates(_rate(self._picture_times, now), _rate(self._decision_times, now))

    def latencies(self, now: float) -> Latencies:
        """Made anew twice a second at most: ranking the samples costs a millisecond of the driving thread."""
        if now - self._ranked_at >= RANKING:
            self._ranked_at, self._ranked = now, self._rank()
        return self._ranked

    def _rank(self) -> Latencies:
        spreads = (
            Spread.of(1000 * seconds for seconds in samples)
            for samples in (self._inference, self._latency, self._lateness)
        )
        return Latencies(*spreads)


def _rate(times: deque[float], now: float) -> float:
    """Events a second over the latest two seconds; 0 when none came within one."""
    recent = [t for t in times if now - t <= 2.0]
    if len(recent) < 2 or now - recent[-1] > 1.0 or recent[-1] == recent[0]:
        return 0.0
    return (len(recent) - 1) / (recent[-1] - recent[0])
