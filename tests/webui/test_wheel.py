"""One drives, the others watch: who has the wheel, and how it changes hands."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from webui.wheel import ANSWER, IDLE, NotYours, Wheel


@dataclass(frozen=True)
class Somebody:
    name: str


ANNA, BEN, CARL = Somebody("Anna"), Somebody("Ben"), Somebody("Carl")


class Bench:
    def __init__(self) -> None:
        self.now = 0.0
        self.told: list[str] = []
        self.wheel = Wheel(lambda: self.now, self.told.append)


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    for person in (ANNA, BEN, CARL):
        bench.wheel.came(person)
    return bench


def test_the_first_who_takes_it_has_it(bench: Bench) -> None:
    bench.wheel.take(ANNA)
    bench.wheel.take(ANNA)
    with pytest.raises(NotYours, match="Anna has the wheel: ask for it first"):
        bench.wheel.take(BEN)
    assert bench.wheel.holder == ANNA
    assert bench.told == []


def test_who_is_asked_may_hand_it_over_and_the_car_is_let_go(bench: Bench) -> None:
    bench.wheel.take(ANNA)
    bench.wheel.ask(BEN)
    assert (bench.wheel.holder, bench.wheel.asking) == (ANNA, BEN)
    bench.wheel.give(ANNA)
    assert (bench.wheel.holder, bench.wheel.asking) == (BEN, None)
    assert bench.told == ["The wheel went to Ben."]


def test_who_is_asked_may_keep_it(bench: Bench) -> None:
    bench.wheel.take(ANNA)
    bench.wheel.ask(BEN)
    bench.wheel.keep(ANNA)
    bench.now += 2 * ANSWER
    assert (bench.wheel.holder, bench.wheel.asking, bench.told) == (ANNA, None, [])


def test_no_answer_hands_it_over(bench: Bench) -> None:
    bench.wheel.take(ANNA)
    bench.wheel.ask(BEN)
    bench.now += ANSWER - 0.1
    assert bench.wheel.holder == ANNA
    bench.now += 0.1
    assert bench.wheel.holder == BEN


def test_only_one_asks_at_a_time_and_nobody_answers_for_another(bench: Bench) -> None:
    bench.wheel.take(ANNA)
    bench.wheel.ask(BEN)
    with pytest.raises(NotYours, match="Ben has asked before you"):
        bench.wheel.ask(CARL)
    for act in (bench.wheel.give, bench.wheel.keep):
        with pytest.raises(NotYours):
            act(CARL)
    assert (bench.wheel.holder, bench.wheel.asking) == (ANNA, BEN)


def test_with_the_last_page_goes_the_wheel(bench: Bench) -> None:
    bench.wheel.came(ANNA)
    bench.wheel.take(ANNA)
    bench.wheel.went(ANNA)
    assert bench.wheel.holder == ANNA
    bench.wheel.went(ANNA)
    assert bench.wheel.holder is None
    assert bench.told == ["The page of Anna is gone."]


def test_it_goes_to_who_asked_when_the_holder_goes(bench: Bench) -> None:
    bench.wheel.take(ANNA)
    bench.wheel.ask(BEN)
    bench.wheel.leave(ANNA)
    assert bench.wheel.holder == BEN
    bench.wheel.leave(CARL)
    assert bench.wheel.holder == BEN


def test_who_has_no_page_lets_go_when_idle(bench: Bench) -> None:
    program = Somebody("A program")
    bench.wheel.take(program)
    bench.now += IDLE - 0.1
    bench.wheel.take(program)
    bench.now += IDLE - 0.1
    assert bench.wheel.holder == program
    bench.now += 0.1
    assert bench.wheel.holder is None
    assert bench.told == ["A program has let go of the wheel."]


def test_asking_for_a_free_wheel_takes_it(bench: Bench) -> None:
    bench.wheel.ask(BEN)
    assert bench.wheel.holder == BEN
