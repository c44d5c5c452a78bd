"""The box: a process that gives up every right it can spare, and only then reads and runs a user's reward function.

A program of its own: standard library only, run by path, never with the project at hand. In on descriptor 0, each a
length (LENGTH) and a marshalled dict: how to be confined; then what to run. After that requests (REQUEST, and rows of
doubles), each answered on descriptor 1 by one REPLY and either doubles or at most MOST_TEXT bytes of UTF-8.
"""

from __future__ import annotations

import array
import builtins
import io
import marshal
import os
import signal
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import FrameType, ModuleType

LENGTH: Final = struct.Struct("<Q")
REQUEST: Final = struct.Struct("<QII")
"""A serial number, rows, objects in each row."""
REPLY: Final = struct.Struct("<QIIII")
"""The request's serial number (0: ready), one of the kinds below, row and line of an error, bytes that follow."""
REWARDS, FAILED, OVERRUN, REFUSED = range(4)
"""Doubles follow; the function failed in that row; it took too long; there is nothing to ask here."""
MOST_TEXT: Final = 4096
MOST_REWARD: Final = 1e5
FILE: Final = "<reward>"

Reward = Callable[[dict[str, Any]], Any]
Make = Callable[[tuple[float, ...]], dict[str, Any]]


class _Overrun(BaseException):
    """The time is up. No Exception, so that the usual `except Exception` lets it pass."""


class _Unfit(Exception):
    """What the function returned is no reward; the message says why."""


class _Unconfined(Exception):
    """This kernel did not take away what had to go."""


class _Nowhere(io.TextIOBase):
    """Where prints go."""

    def write(self, text: str) -> int:
        return len(text)


def maker(columns: Mapping[str, Any], objects: int, world: Mapping[str, Any]) -> Make:
    """Compile what turns a row, as a tuple of floats, into a fresh parameters dict; a microsecond each.

    `columns`: "scalars", "pairs", "object" as in sim_stub.parameters, with the types' names. `world`: "waypoints",
    "reversed_waypoints" (lists of tuples) and "track_length".
    """
    form = {"float": "{}", "int": "int({})", "bool": "{} != 0.0"}
    entries, place = {"track_length": "length"}, 0
    for name, kind in columns["scalars"]:
        entries[name] = form[kind].format(f"c{place}")
        if name == "is_reversed":
            entries["waypoints"] = f"(back if c{place} else ahead)[:]"
        place += 1
    for name in columns["pairs"]:
        entries[name] = f"[int(c{place}), int(c{place + 1})]"
        place += 2
    lists: dict[str, list[str]] = {name: [] for name, _ in columns["object"]}
    for _ in range(objects):
        for name, kind in columns["object"]:
            if kind == "tuple":
                lists[name].append(f"(c{place}, c{place + 1})")
                place += 1
            else:
                lists[name].append(form[kind].format(f"c{place}"))
            place += 1
    entries |= {name: f"[{', '.join(each)}]" for name, each in lists.items()}
    names = ", ".join(f"c{number}" for number in range(place))
    scope = {
        "ahead": world["waypoints"],
        "back": world["reversed_waypoints"],
        "length": world["track_length"],
        "form": dict.fromkeys(entries),
    }
    # A third faster than one large display.
    steps = "".join(f" params[{name!r}] = {value}\n" for name, value in entries.items())
    exec(f"def make(row):\n {names}, = row\n params = form.copy()\n{steps} return params", scope)
    make: Make = scope["make"]
    return make


def number(value: object) -> float:
    """A reward as a float: ints, floats, and numpy's own, 0-d arrays included, but no bool. Raises _Unfit."""
    if type(value) is not float:
        numpy = sys.modules.get("numpy")
        if numpy is not None and isinstance(value, (numpy.generic, numpy.ndarray)):
            fit = value.dtype.kind in "iuf" and value.shape == ()
        else:
            fit = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not fit:
            shape = f" of shape {value.shape}" if numpy is not None and isinstance(value, numpy.ndarray) else ""
            what = "None" if value is None else f"a value of type {type(value).__name__}{shape}"
            raise _Unfit(f"it returned {what}, not a number")
        try:
            value = float(value)  # type: ignore[arg-type]
        except OverflowError:
            value = float("inf")
    if value != value:
        raise _Unfit("it returned NaN, not a number")
    if not -MOST_REWARD <= value <= MOST_REWARD:
        raise _Unfit(f"it returned {value:g}; the most that counts is {MOST_REWARD:g} either way")
    return value


def confine(orders: Mapping[str, Any]) -> None:
    """Give up whatever `orders` say: in every way the limits; then Landlock and the filter. Raises _Unconfined."""
    import resource  # no part of Windows, where this file can still be imported

    for name, most in orders["limits"].items():
        what = getattr(resource, name)
        hard = resource.getrlimit(what)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (least, least))
    if sys.platform != "linux":
        return
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)

    def call(name: str, *arguments: Any) -> int:
        ctypes.set_errno(0)
        result: int = getattr(libc, name)(*arguments)
        if result < 0:
            raise _Unconfined(f"{name} failed: {os.strerror(ctypes.get_errno())}")
        return result

    def word(value: int) -> Any:
        return ctypes.c_ulong(value)

    def prctl(option: int, value: int = 0, pointer: Any = 0) -> int:
        return call("prctl", option, word(value), pointer or word(0), word(0), word(0))

    prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if orders["parent"] not in (os.getppid(), None):
        raise _Unconfined("the trainer is gone")
    prctl(4, 0)  # PR_SET_DUMPABLE: no other process reads its memory
    prctl(38, 1)  # PR_SET_NO_NEW_PRIVS
    if orders["landlock"]:
        attributes, rights, paths = orders["landlock"]
        rules = call("syscall", word(444), attributes, word(len(attributes)), word(0))
        for path in paths:
            folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
            allowed = struct.pack("=Qi", rights if os.path.isdir(path) else rights & 4, folder)  # noqa: PTH112
            call("syscall", word(445), word(rules), word(1), allowed, word(0))
            os.close(folder)
        call("syscall", word(446), word(rules), word(0))
        os.close(rules)
    if orders["filter"] is None:
        return
    for capability in range(64):
        libc.prctl(24, word(capability), word(0), word(0), word(0))  # PR_CAPBSET_DROP, which only root needs and may
    call("capset", struct.pack("=Ii", 0x20080522, 0), bytes(24))
    code = ctypes.create_string_buffer(orders["filter"], len(orders["filter"]))
    program = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(code))
    prctl(22, 2, program)  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER


class _Packages:
    """Finds the few packages that a reward function may import, without showing it the folder that they are in."""

    def __init__(self, homes: Mapping[str, str]) -> None:
        self._homes = homes

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in self._homes:
            return None
        from importlib.util import spec_from_file_location

        home = self._homes[name]
        return spec_from_file_location(name, f"{home}/__init__.py", submodule_search_locations=[home])


def warm(source: str, homes: Mapping[str, str]) -> None:
    """Import what the source seems to import from the packages: their loading is not the function's time."""
    for line in source.splitlines():
        words = line.replace(",", " ").replace(";", " ").split()
        if len(words) < 2 or words[0] not in ("import", "from"):
            continue
        for name in words[1:] if words[0] == "import" else [f"{words[1]}.{last}" for last in ["", *words[3:]]]:
            if name.split(".")[0] in homes:
                try:
                    __import__(name.rstrip("."))
                except Exception:  # noqa: BLE001
                    continue  # the user's own import will say it, with its line


def seed(value: int) -> None:
    """Make all chance that a function can ask for the same in every run."""
    import random

    random.seed(value)
    dice = random.Random(value)
    os.urandom = dice.randbytes
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(value % 2**32)
        # default_rng() asks it for entropy.
        numpy.random.bit_generator.randbits = dice.getrandbits


def load(source: str) -> Reward:
    """Run the user's file and return its reward_function. Raises whatever that raises; _Unfit if there is none."""
    scope: dict[str, Any] = {"__name__": "reward", "__builtins__": builtins}
    exec(compile(source, FILE, "exec", dont_inherit=True), scope)
    function = scope.get("reward_function")
    if not callable(function):
        raise _Unfit("there is no reward_function")
    result: Reward = function
    return result


def explain(error: BaseException) -> tuple[int, str]:
    """The line of the user's file (0: none) and one sentence. Whatever the error's own methods do, this returns."""
    line, name, text = 0, "an error", ""
    try:
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == FILE:
                line = trace.tb_lineno
            trace = trace.tb_next
        if isinstance(error, _Unfit | _Unconfined):
            return line, str(error)
        if isinstance(error, MemoryError):
            return line, "it needs more memory than it may have"
        if isinstance(error, SyntaxError) and error.filename == FILE:
            return error.lineno or 0, f"syntax error: {error.msg}"
        name = type(error).__name__
        text = str(error)[:1000]
    except BaseException:  # noqa: BLE001
        pass
    return line, f"{name}{': ' * bool(text)}{text}"


def _late(number: int, frame: FrameType | None) -> NoReturn:
    raise _Overrun


def main() -> None:
    requests = open(0, "rb", closefd=False)  # noqa: SIM115
    answers = os.dup(1)
    os.set_blocking(2, False)
    os.dup2(2, 1)

    def orders() -> dict[str, Any]:
        found: dict[str, Any] = marshal.loads(requests.read(*LENGTH.unpack(requests.read(LENGTH.size))))
        return found

    def answer(serial: int, kind: int, row: int, line: int, data: bytes) -> None:
        rest = memoryview(REPLY.pack(serial, kind, row, line, len(data)) + data)
        while rest:
            rest = rest[os.write(answers, rest) :]

    def fail(serial: int, kind: int, row: int, error: BaseException, first: int) -> None:
        if isinstance(error, _Overrun):
            line, text = explain(error)[0], "it took too long"
            kind = OVERRUN
        else:
            line, text = explain(error)
        answer(serial, kind, row, line or first, text.encode(errors="replace")[:MOST_TEXT])

    first = 0
    try:
        setup = orders()
        confine(setup)
        sys.stdin, sys.stdout, sys.stderr = io.StringIO(), _Nowhere(), _Nowhere()
        homes = setup["packages"]
        sys.meta_path.append(_Packages(homes))
        warm("".join(f"import {name}\n" for name in setup["load"]), homes)
        task = orders()
        warm(task["source"], homes)
        if "random" in task["source"] or "numpy" in sys.modules:
            seed(task["seed"])
        signal.signal(signal.SIGALRM, _late)
        seconds = task["seconds"]
        signal.setitimer(signal.ITIMER_REAL, seconds)
        function = load(task["source"])
        signal.setitimer(signal.ITIMER_REAL, 0)
        first = getattr(getattr(function, "__code__", None), "co_firstlineno", 0)
    except BaseException as error:  # noqa: BLE001
        signal.setitimer(signal.ITIMER_REAL, 0)
        fail(0, REFUSED, 0, error, 0)
        return
    answer(0, REWARDS, 0, 0, b"")

    makers: dict[int, tuple[Make, struct.Struct]] = {}
    while head := requests.read(REQUEST.size):
        serial, rows, objects = REQUEST.unpack(head)
        if objects not in makers:
            columns = len(task["scalars"]) + 2 * len(task["pairs"]) + objects * (len(task["object"]) + 1)
            makers[objects] = maker(task, objects, task), struct.Struct(f"<{columns}d")
        make, form = makers[objects]
        data = requests.read(rows * form.size)
        rewards = array.array("d")
        try:
            signal.setitimer(signal.ITIMER_REAL, seconds)
            for values in form.iter_unpack(data):
                value = function(make(values))
                usual = type(value) is float and -MOST_REWARD <= value <= MOST_REWARD
                rewards.append(value if usual else number(value))
            signal.setitimer(signal.ITIMER_REAL, 0)
        except BaseException as error:  # noqa: BLE001
            signal.setitimer(signal.ITIMER_REAL, 0)
            fail(serial, FAILED, len(rewards), error, first)
        else:
            answer(serial, REWARDS, 0, 0, rewards.tobytes())


if __name__ == "__main__":
    main()
