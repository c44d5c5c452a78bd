"""Reward functions: what they are told, what becomes of their errors, what is said of their files, and our own four."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_trainer import box
from cloud_trainer.confine import Confinement, confinement
from cloud_trainer.diagnose import MOST_CHARACTERS, Diagnostic, check
from cloud_trainer.reward import (
    EXAMPLES,
    WAYS,
    RewardError,
    RewardWorker,
    Rows,
    Validator,
    example,
    validate,
    validate_command,
)
from cloud_trainer.trial import TRIAL_LENGTH, TRIAL_ROUTE, trial_rows
from sim_stub.parameters import COLUMN, OBJECT, PAIRS, SCALARS, as_dict, width

BACK = TRIAL_ROUTE[::-1]
KEYS = {name for name, _ in (*SCALARS, *OBJECT)} | {*PAIRS, "waypoints", "track_length"}


def worker(source: str, **options: Any) -> RewardWorker:
    """Confined where that is possible: what is tested here does not depend on it."""
    return RewardWorker(source, TRIAL_ROUTE, TRIAL_LENGTH, **{"trust": True, **options})


def backwards(rows: Rows) -> Rows:
    rows = rows.copy()
    rows[:, COLUMN["is_reversed"]] = 1.0
    return rows


def shape(value: object) -> object:
    """The types of a value and of everything in it."""
    return [type(value), [shape(inside) for inside in value]] if isinstance(value, (list, tuple)) else type(value)


@pytest.mark.parametrize("objects", [0, 1, 2])
def test_the_function_is_told_exactly_the_parameters(objects: int) -> None:
    rows = trial_rows(objects)
    expected = [as_dict(row, TRIAL_ROUTE, TRIAL_LENGTH) for row in rows]
    assert set(expected[0]) == KEYS
    expected += [as_dict(row, BACK, TRIAL_LENGTH) for row in backwards(rows)]
    source = f"""
EXPECTED = {expected!r}
calls = 0

def shape(value):
    return [type(value), [shape(inside) for inside in value]] if isinstance(value, (list, tuple)) else type(value)

def reward_function(params):
    global calls
    expected = EXPECTED[calls]
    calls += 1
    assert params == expected, (params, expected)
    for name in expected:
        assert shape(params[name]) == shape(expected[name]), name
    return calls
"""
    with worker(source, objects=objects, reversed_waypoints=BACK) as tested:
        assert tested(rows).tolist() == list(range(1, 9))
        assert tested(backwards(rows)).tolist() == list(range(9, 17))


@given(st.data(), st.integers(0, 3))
def test_any_row_becomes_the_same_dict_in_the_box(data: st.DataObject, objects: int) -> None:
    row = np.array(data.draw(st.lists(st.floats(-1e6, 1e6), min_size=width(objects), max_size=width(objects))))
    columns = {
        "scalars": [(name, kind.__name__) for name, kind in SCALARS],
        "pairs": PAIRS,
        "object": [(name, kind.__name__) for name, kind in OBJECT],
    }
    world = {"waypoints": TRIAL_ROUTE, "reversed_waypoints": BACK, "track_length": TRIAL_LENGTH}
    made = box.maker(columns, objects, world)(tuple(row.tolist()))
    expected = as_dict(row, BACK if row[COLUMN["is_reversed"]] else TRIAL_ROUTE, TRIAL_LENGTH)
    assert made == expected
    assert {name: shape(made[name]) for name in made} == {name: shape(expected[name]) for name in expected}


def test_every_call_gets_parameters_of_its_own() -> None:
    source = """
def reward_function(params):
    for name, value in list(params.items()):
        if isinstance(value, list):
            if len(value) != {"waypoints": 61, "closest_waypoints": 2, "closest_objects": 2}.get(name, 2):
                return -1
            value.clear()
    params.clear()
    return 1
"""
    with worker(source, objects=2) as tested:
        for _ in range(2):
            assert tested(trial_rows(2)).tolist() == [1.0] * 8


NUMBERS = {
    "True + 1": 2.0,
    "1 << 16": 65536.0,
    "-1e5": -1e5,
    "np.float32(0.5)": 0.5,
    "np.float64(0.5)": 0.5,
    "np.int8(-3)": -3.0,
    "np.uint64(7)": 7.0,
    "np.array(0.25)": 0.25,
    "np.array(2)": 2.0,
}


def test_numbers_of_all_kinds_are_rewards() -> None:
    source = f"import numpy as np\ndef reward_function(params): return [{', '.join(NUMBERS)}][params['steps']]"
    rows = np.repeat(trial_rows(0)[:1], len(NUMBERS), axis=0)
    rows[:, COLUMN["steps"]] = range(len(NUMBERS))
    with worker(source) as tested:
        assert tested(rows).tolist() == list(NUMBERS.values())
        assert tested(rows[:0]).shape == (0,)
        assert tested(np.repeat(rows, 1000, axis=0)).shape == (9000,)
        with pytest.raises(ValueError, match="shape"):
            tested(trial_rows(1))


FAILURES = {
    "1 / 0": "ZeroDivisionError: division by zero",
    "params['sped']": "KeyError: 'sped'",
    "float('nan')": "it returned NaN",
    "math.inf": "it returned inf",
    "-math.inf": "it returned -inf",
    "1.1e5": "it returned 110000; the most",
    "10 ** 400": "it returned inf",
    "True": "it returned a value of type bool",
    "None": "it returned None",
    "'1.0'": "it returned a value of type str",
    "1j": "it returned a value of type complex",
    "[1.0]": "it returned a value of type list",
    "np.bool_(True)": "it returned a value of type bool",
    "np.array([1.0])": r"it returned a value of type ndarray of shape \(1,\)",
    "np.array(None)": "it returned a value of type ndarray of shape",
    "np.float64('nan')": "it returned NaN",
    "np.complex128(1)": "it returned a value of type complex128",
    "bytearray(1 << 40)": "it needs more memory",
    "(lambda f: f(f))(lambda f: f(f))": "RecursionError",
    "exit_()": "SystemExit",
}


@pytest.fixture(scope="module")
def failing() -> Iterator[RewardWorker]:
    """Fails in its eighth line for every step but 0, each in its own way."""
    cases = ", ".join(f"lambda params: {case}" for case in FAILURES)
    source = f"""import math
import numpy as np
def exit_(): raise SystemExit
CASES = [lambda params: 7.0, {cases}]


def reward_function(params):
    reward = CASES[params["steps"]](params); return reward
"""
    with worker(source) as tested:
        yield tested


@pytest.mark.parametrize(("place", "said"), list(enumerate(FAILURES.values(), start=1)), ids=FAILURES)
def test_a_failure_is_told_with_its_line_and_parameters(place: int, said: str, failing: RewardWorker) -> None:
    rows = trial_rows(0)[[0, 1, 2]]
    rows[:, COLUMN["steps"]] = [0, place, 0]
    with pytest.raises(RewardError, match=said) as caught:
        failing(rows)
    assert caught.value.line in {3, 4, 7, 8}
    assert f"failed in line {caught.value.line}: " in str(caught.value)
    assert caught.value.params == as_dict(rows[1], TRIAL_ROUTE, TRIAL_LENGTH)
    # It was one call, and not the end.
    assert failing(rows[::2]).tolist() == [7.0, 7.0]


def test_the_line_is_the_innermost_of_the_users_own() -> None:
    source = (
        "import json\ndef inner(x):\n    return json.loads(x)\ndef reward_function(params):\n    return inner('{')\n"
    )
    with worker(source) as tested, pytest.raises(RewardError, match="JSONDecodeError") as caught:
        tested(backwards(trial_rows(0)))
    assert caught.value.line == 3
    assert caught.value.params is not None
    assert caught.value.params["is_reversed"] is True


def test_a_slow_batch_is_stopped_with_line_and_parameters() -> None:
    source = "def reward_function(params):\n    while params['steps'] != 1:\n        id(0)\n    return 1\n"
    with worker(source, seconds=0.5) as tested:
        assert tested(trial_rows(0)[:1]).tolist() == [1.0]
        with pytest.raises(RewardError, match=r"took longer than 0\.5 s in line [23] for 8 calls") as caught:
            tested(trial_rows(0))
        assert caught.value.line in {2, 3}
        assert caught.value.params == as_dict(trial_rows(0)[1], TRIAL_ROUTE, TRIAL_LENGTH)
        with pytest.raises(RewardError, match="took longer"):
            tested(trial_rows(0)[:1])


def test_a_closed_worker_says_so() -> None:
    tested = worker("def reward_function(params): return 1")
    tested.close()
    tested.close()
    with pytest.raises(RewardError, match="was closed"):
        tested(trial_rows(0))


CHANCE = """
import random
import numpy as np
from numpy.random import default_rng
def reward_function(params):
    return random.random() + np.random.rand() + default_rng().random() + len({str(k) for k in range(9)}) + \
        list({"a", "b", "c", "d", "e", "f"}).index("a")
"""


def test_the_same_seed_gives_the_same_rewards() -> None:
    def rewards(seed: int) -> list[float]:
        with worker(CHANCE, seed=seed) as tested:
            return [*tested(trial_rows(0)), *tested(trial_rows(0))]

    assert rewards(3) == rewards(3)
    assert rewards(3) != rewards(4)


GOOD = "def reward_function(params):\n    return 1.0\n"
DIAGNOSES = {
    "empty": ("", [(1, 1, "there is no reward_function")]),
    "too long": ("#" * (MOST_CHARACTERS + 1), [(1, 1, "140001 characters")]),
    "null": (GOOD + "x = '\0'", [(3, 6, "a null character")]),
    "surrogate": (GOOD + "\r\n# \ud800", [(4, 3, "UTF-8 cannot write")]),
    "syntax": ("def reward_function(params):\n    return (1\n", [(2, 12, "syntax error: '(' was never closed")]),
    "indentation": (GOOD + "   x = 1", [(3, 9, "syntax error: unindent")]),
    "no function": ("def reward(params):\n    return 1\n", [(1, 1, "there is no reward_function")]),
    "no argument": ("\ndef reward_function():\n    return 1\n", [(2, 1, "must take one argument")]),
    "two arguments": ("def reward_function(a, b):\n    return 1\n", [(1, 1, "must take one argument")]),
    "named argument": ("def reward_function(a, *, b):\n    return 1\n", [(1, 1, "must take one argument")]),
    "async": ("async def reward_function(params):\n    return 1\n", [(1, 1, "not async")]),
    "import": ("import math, os\n" + GOOD, [(1, 1, "os cannot be imported: only math, random, numpy")]),
    "import from": (GOOD + "def f():\n    from os.path import join\n    return join\n", [(4, 5, "os.path cannot be")]),
    "relative import": ("from . import x\n" + GOOD, [(1, 1, ". cannot be imported")]),
    "name": ("def reward_function(params):\n    return speed\n", [(2, 12, "undefined name speed")]),
    "wide name": ("def reward_function(params):\n    return 'ä€😀' + sped\n", [(2, 20, "undefined name sped")]),
    "open": (GOOD + "x = open('f')\n", [(3, 5, "open() is not allowed")]),
    "exec": (GOOD + "exec('1')\n__import__('os')\n", [(3, 1, "exec() is"), (4, 1, "__import__() is")]),
    "numpy": ("import numpy as np\n" + GOOD + "x = np.load('f')\n", [(4, 5, "numpy.load() is not allowed")]),
    "from numpy": ("from numpy import loadtxt as l\n" + GOOD + "l('f')\n", [(4, 1, "numpy.loadtxt() is not")]),
    "tofile": ("import numpy\n" + GOOD + "numpy.zeros(3).tofile('f')\n", [(4, 1, "tofile() is not allowed")]),
    "several": ("import os\ndef reward_function(params):\n    return spee\n", [(1, 1, "os"), (3, 12, "spee")]),
    "deep": (GOOD + "x = " + "(" * 5000 + ")" * 5000, [(3, 205, "syntax error: too many nested parentheses")]),
    "deeper": (GOOD + "x = " + "-" * 100_000 + "1", [(1, 1, "nested too deeply")]),
    "long chain": (GOOD + "x = " + "1+" * 60_000 + "1", [(1, 1, "nested too deeply")]),
    "raises": ("def reward_function(params):\n    return 1 / 0\n", [(2, 1, "ZeroDivisionError")]),
    "raises outside": (GOOD + "x = 1 / 0\n", [(3, 1, "cannot start: ZeroDivisionError")]),
    "compiles not": (GOOD + "return 1\n", [(3, 1, "cannot start: syntax error: 'return' outside function")]),
    "nothing": ("def reward_function(params):\n    pass\n", [(1, 1, "it returned None")]),
    "nothing without objects": (
        "def reward_function(params):\n    for x in params['objects_speed']:\n        return 1.0\n",
        [(1, 1, "it returned None")],
    ),
    "loop": ("def reward_function(params):\n    while True:\n        pass\n", [(2, 1, "took longer than 0.5 s for")]),
    "object": (
        "def reward_function(params):\n    return params['objects_speed'][7]\n",
        [(2, 1, "reward_function failed: IndexError: list index out of range.")],
    ),
}


@pytest.mark.parametrize(("source", "expected"), DIAGNOSES.values(), ids=DIAGNOSES)
def test_what_is_wrong_is_told_with_its_place(source: str, expected: list[tuple[int, int, str]]) -> None:
    found = validate(source, trust=True)
    assert len(found) == len(expected), found
    for diagnostic, (line, column, said) in zip(found, expected, strict=True):
        assert said in diagnostic.message
        assert (diagnostic.line, diagnostic.column) == (line, column) or "while" in source
        assert diagnostic.message.isprintable()


FINE = {
    "plain": GOOD,
    "windows": GOOD.replace("\n", "\r\n"),
    "future": "from __future__ import annotations\n" + GOOD,
    "default": "def reward_function(params, other=1):\n    return 1.0\n",
    "star": "def reward_function(*params):\n    return len(params)\n",
    "lambda": "reward_function = lambda params: 1.0\n",
    "class": "class reward_function:\n    def __new__(cls, params):\n        return 1.0\n",
    "method called load": "class A:\n    def load(self): return 1.0\ndef reward_function(params): return A().load()\n",
    "own compile": "def compile(x): return 1.0\ndef reward_function(params): return compile(1)\n",
    "star import": "from math import *\ndef reward_function(params): return sqrt(4.0)\n",
    "needs objects": "def reward_function(params): return params['objects_speed'][params['closest_objects'][1]]\n",
    "submodule": "import numpy.linalg\ndef reward_function(params): return numpy.linalg.norm([3.0, 4.0])\n",
    "unused": "import math\ndef reward_function(params):\n    x = 1\n    return 1.0\n",
    "prints": "def reward_function(params):\n    print(params)\n    return 1.0\n",
}


@pytest.mark.parametrize("source", FINE.values(), ids=FINE)
def test_a_file_without_faults_passes(source: str) -> None:
    assert validate(source, trust=True) == []


def test_a_validator_has_a_box_ready_for_every_file() -> None:
    scipy = "from scipy.spatial import KDTree\n" + GOOD
    with Validator(trust=True) as validator:
        assert validator("x = 1") == [
            Diagnostic(1, 1, "there is no reward_function: start with def reward_function(params):")
        ]
        assert validator(scipy) == []
        (found,) = validator(scipy + "KDTree(1)")
        assert (found.line, found.message[:33]) == (4, "The reward function cannot start:")
        assert validator(GOOD) == []


WORDS = (
    """def |reward_function|(params)|:|\n|    |\t|return |1.0|import os|lambda |f'{|'''|\\|(|]|{|# é|\x0c|\r|\u2028"""
    "|async |*|del |@|yield |match x:|0x|é"
)
PIECES = st.one_of(st.text(), st.sampled_from(WORDS.split("|")))


@given(st.lists(PIECES, max_size=30).map("".join))
@settings(deadline=None)
def test_odd_text_is_diagnosed_and_never_an_error(text: str) -> None:
    _in_place(check(text), text)
    _in_place(check(GOOD + text), GOOD + text)


@given(st.lists(PIECES, max_size=8).map("".join))
@settings(deadline=None, max_examples=25)
def test_odd_text_behind_a_good_function_is_tried_and_never_an_error(text: str) -> None:
    _in_place(validate(GOOD + text, trust=True), GOOD + text)


def _in_place(found: list[Diagnostic], text: str) -> None:
    lines = len(re.split("\r\n|\r|\n", text))
    for diagnostic in found:
        assert 1 <= diagnostic.line <= lines + 1
        assert diagnostic.column >= 1


def test_the_command_prints_what_an_editor_understands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not any(isinstance(confinement(way), Confinement) for way in WAYS[:2]):
        pytest.skip("nothing confines here")
    file = tmp_path / "mine.py"
    file.write_text(GOOD)
    assert validate_command(file) == 0
    said = capsys.readouterr().out
    assert re.fullmatch(rf"{file} is fine; it was tried in a box made by (bubblewrap|landlock)\.\n", said)
    file.write_text("import os\ndef reward_function(params):\n    return spee\n")
    assert validate_command(file) == 2
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{file}:1:1: os cannot be imported")
    assert second == f"{file}:3:12: undefined name spee"
    file.write_bytes(b"\xef\xbb\xbf# \xc3\xa4\n# \xe4\n" + GOOD.encode())
    assert validate_command(file) == 2
    assert capsys.readouterr().out == f"{file}:2:3: this is not UTF-8\n"
    assert validate_command(tmp_path / "absent.py") == 2
    assert "cannot be read: No such file" in capsys.readouterr().err


@pytest.mark.parametrize("name", EXAMPLES)
def test_our_examples_are_fine_and_positive(name: str) -> None:
    source = example(name)
    assert validate(source, trust=True) == []
    for objects in (0, 2):
        with worker(source, objects=objects, reversed_waypoints=BACK) as tested:
            rewards = np.concatenate([tested(trial_rows(objects)), tested(backwards(trial_rows(objects)))])
        assert (rewards > 0.0).all()
        assert (rewards <= 1.01).all()


def test_there_is_no_other_example() -> None:
    with pytest.raises(KeyError):
        example("../reward")


def marks(name: str, objects: int, changes: dict[str, float]) -> float:
    """What an example gives for a car that follows the middle of the road, but for some changes."""
    row = trial_rows(objects)[0]
    for column, value in changes.items():
        row[COLUMN[column]] = value
    return float(box.load(example(name))(as_dict(row, TRIAL_ROUTE, TRIAL_LENGTH)))


def test_the_centre_line_pays_most() -> None:
    marked = [marks("centre_line", 0, {"distance_from_center": aside}) for aside in (0.0, 0.1, 0.2, 0.4, 0.5)]
    assert marked == sorted(marked, reverse=True)
    assert marks("centre_line", 0, {"speed": 4.0}) > marked[0] > 0.8
    assert marks("centre_line", 0, {"is_offtrack": 1.0}) < 0.01


def test_inside_the_borders_every_line_pays_the_same() -> None:
    middle = marks("inside_borders", 0, {})
    assert marks("inside_borders", 0, {"distance_from_center": 0.3}) == middle
    assert marks("inside_borders", 0, {"distance_from_center": 0.5}) < 0.5 * middle
    assert marks("inside_borders", 0, {"all_wheels_on_track": 0.0}) < 0.01


def test_needless_steering_costs() -> None:
    straight = marks("no_zigzag", 0, {})
    assert marks("no_zigzag", 0, {"steering_angle": 60.0}) < 0.6 * straight
    assert marks("no_zigzag", 0, {"heading": 30.0}) < 0.6 * straight
    assert marks("no_zigzag", 0, {"steering_angle": 5.0}) == straight  # the road bends more than that


def test_an_object_ahead_spoils_its_own_lane_only() -> None:
    place = {"distance_from_center": 0.27, "is_left_of_center": 0.0, "x": 2.0, "y": 3.2}
    free = marks("avoid_objects", 0, place)
    assert marks("avoid_objects", 2, place) < 0.6 * free
    assert marks("avoid_objects", 2, place | {"is_left_of_center": 1.0}) == free
    assert marks("avoid_objects", 0, place | {"distance_from_center": 0.0}) < free
    assert marks("avoid_objects", 2, place | {"is_crashed": 1.0}) < 0.01
