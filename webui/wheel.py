"""The wheel: one person drives at a time; the others watch, may ask for it, and may always stop the car."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from typing import Final, Protocol

ANSWER: Final = 10.0
"""Seconds after which a question that nobody answers hands the wheel over."""
IDLE: Final = 10.0
"""Seconds without an order after which whoever has no page open lets go."""


class Person(Hashable, Protocol):
    """Somebody who is logged in; the same somebody compares equal."""

    @property
    def name(self) -> str: ...


class NotYours(RuntimeError):
    """Somebody else has the wheel; the message says who, and what to do."""


class Wheel:
    """`clock` gives seconds; `let_go` is called whenever the wheel leaves a hand, with the reason."""

    def __init__(self, clock: Callable[[], float], let_go: Callable[[str], None]) -> None:
        self._clock, self._let_go = clock, let_go
        self._pages: Counter[Person] = Counter()
        self._holder: Person | None = None
        self._asking: Person | None = None
        self._asked = self._used = 0.0

    @property
    def holder(self) -> Person | None:
        self._settle()
        return self._holder

    @property
    def asking(self) -> Person | None:
        self._settle()
        return self._asking

    def take(self, person: Person) -> None:
        """Take the wheel, or show that one still has it. Raises NotYours while somebody else holds it."""
        holder = self.holder
        if holder is None:
            self._holder = person
        elif holder != person:
            raise NotYours(f"{holder.name} has the wheel: ask for it first. Stop works for everybody.")
        self._used = self._clock()

    def ask(self, person: Person) -> None:
        """Ask the holder; when nobody answers in ANSWER seconds, `person` has the wheel. Raises NotYours."""
        holder, asking = self.holder, self.asking
        if holder is None:
            self.take(person)
        elif holder != person:
            if asking not in (None, person):
                raise NotYours(f"{asking.name} has asked before you: wait for the answer.")
            if asking is None:
                self._asking, self._asked = person, self._clock()

    def give(self, person: Person) -> None:
        """The holder hands it to whoever asks. Raises NotYours."""
        self.take(person)
        if self._asking is not None:
            self._pass_to(self._asking, f"The wheel went to {self._asking.name}.")

    def keep(self, person: Person) -> None:
        """The holder does not hand it over. Raises NotYours."""
        self.take(person)
        self._asking = None

    def leave(self, person: Person) -> None:
        """Let go of it, or of the question; nothing, if `person` has neither."""
        if self._asking == person:
            self._asking = None
        if self._holder == person:
            self._pass_to(self._asking, f"{person.name} has let go of the wheel.")

    def came(self, person: Person) -> None:
        """A page of theirs has opened."""
        self._pages[person] += 1

    def went(self, person: Person) -> None:
        """A page of theirs has closed; with the last one goes the wheel."""
        self._pages[person] -= 1
        if self._pages[person] <= 0:
            del self._pages[person]
            if self._asking == person:
                self._asking = None
            if self._holder == person:
                self._pass_to(self._asking, f"The page of {person.name} is gone.")

    def _settle(self) -> None:
        now = self._clock()
        if self._asking is not None and now - self._asked >= ANSWER:
            self._pass_to(self._asking, f"The wheel went to {self._asking.name}.")
        elif self._holder is not None and not self._pages[self._holder] and now - self._used >= IDLE:
            self._pass_to(self._asking, f"{self._holder.name} has let go of the wheel.")

    def _pass_to(self, person: Person | None, reason: str) -> None:
        self._holder, self._asking, self._used = person, None, self._clock()
        self._let_go(reason)
