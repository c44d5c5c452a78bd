"""The box holds: every attack is refused or ends only the box, in each way of confinement, and the trainer goes on."""

from __future__ import annotations

import os
import platform
import select
import socket
import struct
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from cloud_trainer import confine
from cloud_trainer.confine import BOX, Confinement, Way, confinement
from cloud_trainer.reward import RewardError, RewardWorker
from cloud_trainer.trial import TRIAL_LENGTH, TRIAL_ROUTE, trial_rows
from sim_stub.parameters import COLUMN, width

HARMLESS = "def reward_function(params): return params['x']"
ONE = trial_rows(0)[:1] * (np.arange(width(0)) != COLUMN["steps"])
"""A call; its steps are 0."""


@pytest.fixture(scope="module", params=["bubblewrap", "landlock"])
def way(request: pytest.FixtureRequest) -> Way:
    chosen: Way = request.param
    found = confinement(chosen)
    if isinstance(found, str):
        pytest.skip(found)
    return chosen


def box(source: str, way: Way, seconds: float = 2.0) -> RewardWorker:
    return RewardWorker(source, TRIAL_ROUTE, TRIAL_LENGTH, ways=(way,), seconds=seconds)


def attack(*bodies: str) -> str:
    """A reward function that runs the body numbered by params["steps"]: 0 if it was refused, else 1 or its result."""
    attacks = [
        f"def attack{number}():\n{textwrap.indent(textwrap.dedent(body).strip(), '    ')}\n    return 1.0\n"
        for number, body in enumerate(bodies)
    ]
    return (
        "import ctypes, fcntl, os, resource, select, signal, socket, struct, subprocess, sys, threading\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "def refused(result):\n"
        "    if result < 0: raise OSError(ctypes.get_errno())\n"
        f"{''.join(attacks)}"
        "def reward_function(params):\n"
        "    try: return globals()[f'attack{params[\"steps\"]}']()\n"
        "    except (OSError, RuntimeError, MemoryError, ValueError, ImportError): return 0.0\n"
    )


def survived(way: Way) -> None:
    """A new box works."""
    with box(HARMLESS, way) as worker:
        assert worker(ONE) == ONE[0, 1]


REFUSED = {
    "read the passwords": "open('/etc/passwd').read()",
    "read the passwords' hashes": "open('/etc/shadow').read()",
    "list root's home": "os.listdir('/root')",
    "list all homes": "os.listdir('/home')",
    "list the temporary folder": "os.listdir({folder!r})",
    "read a file there": "open({canary!r}).read()",
    "list what surrounds it": "if 'work' not in os.listdir('/'): raise OSError",
    "read the project": "open({project!r}).read()",
    "list the project": "os.listdir(os.path.dirname({project!r}))",
    "read another process's environment": "open('/proc/{parent}/environ').read()",
    "read another process's memory": "open('/proc/{other}/mem', 'rb').read(1)",
    "read its own parent's command line": "open(f'/proc/{{os.getppid()}}/cmdline').read()",
    "read its own environment by file": "open('/proc/self/environ').read()",
    "see the trainer's environment": "if 'HOTLAP_SECRET' not in os.environ: raise OSError",
    "read a link": "os.readlink('/proc/{parent}/exe')",
    "read a device": "open('/dev/mem', 'rb')",
    "write there": "open(os.path.join({folder!r}, 'written'), 'w').write('x')",
    "change a file there": "open({canary!r}, 'r+').write('x')",
    "write in the root": "open('/written', 'w')",
    "write in its folder": "open('written', 'w')",
    "write in /tmp": "open('/tmp/hotlap-written', 'w')",
    "write in shared memory": "open('/dev/shm/hotlap-written', 'w')",
    "make a folder": "os.mkdir('/made')",
    "remove a file": "os.remove({canary!r})",
    "connect": "socket.create_connection(('127.0.0.1', {port}), 1)",
    "open a socket": "socket.socket()",
    "open a unix socket": "socket.socket(socket.AF_UNIX)",
    "make a socket pair": "socket.socketpair()",
    "fork": "if os.fork() == 0: os._exit(0)",
    "spawn": "os.posix_spawn(sys.executable, [sys.executable, '-c', ''], {{}})",
    "run a program": "subprocess.run([sys.executable, '-c', ''])",
    "become a program": "os.execv(sys.executable, [sys.executable, '-c', ''])",
    "start a thread": "threading.Thread(target=id, args=(0,)).start()",
    "take 1 GB": "x = bytearray(1 << 30)",
    "take it in pieces": "import mmap\nx = [mmap.mmap(-1, 1 << 26) for _ in range(1 << 4)]",
    "raise its limits": "resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))",
    "lift another's limits": "resource.prlimit({parent}, resource.RLIMIT_AS, (1 << 30, 1 << 30))",
    "kill its parent": "os.kill(os.getppid(), signal.SIGKILL)",
    "kill the trainer": "os.kill({parent}, signal.SIGKILL)",
    "kill everybody": "os.kill(-1, signal.SIGKILL)",
    "kill its group": "os.killpg(0, signal.SIGKILL)",
    "ask whether the trainer lives": "os.kill({parent}, 0)",
    "signal through a pipe": "fcntl.fcntl(0, fcntl.F_SETOWN, {parent})",
    "stop itself": "os.kill(os.getpid(), signal.SIGSTOP)",
    "send itself a signal": "signal.raise_signal(signal.SIGKILL)",
    "type into the terminal": "fcntl.ioctl(0, 0x5412, b'x')",
    "make itself a new root": "os.chroot('/')",
    "become root": "os.setuid(0)",
    "trace the box's init": "refused(libc.ptrace(16, 1, None, None))",
    "trace its parent": "refused(libc.ptrace(16, os.getppid(), None, None))",
    "trace the trainer": "refused(libc.ptrace(16, {parent}, None, None))",
    "be traced": "refused(libc.ptrace(0, 0, None, None))",
    "copy another box's memory": (
        "room = ctypes.create_string_buffer(8)\n"
        "vector = struct.pack('PN', ctypes.addressof(room), 8)\n"
        "refused(libc.process_vm_readv({other}, vector, 1, vector, 1, 0))"
    ),
    "nest a user namespace": "refused(libc.unshare(0x10000000))",
    "nest a network namespace": "refused(libc.unshare(0x40000000))",
    "mount": "refused(libc.mount(b'none', b'/', b'tmpfs', 0, None))",
    "outlive the trainer": "refused(libc.prctl(1, 0, 0, 0, 0))",
    "take all descriptors": "for _ in range(64): os.dup(0)",
}


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, socket.socket, int]]:
    """What the attacks are after: a file, a listening socket, and another box's process."""
    canary = tmp_path_factory.mktemp("outside") / "canary"
    canary.write_text("alive")
    ways: Sequence[Way] = ("landlock", "bubblewrap")  # in the first it has an id to be found by
    try:
        other = RewardWorker(HARMLESS, TRIAL_ROUTE, TRIAL_LENGTH, ways=ways)
    except RewardError as error:
        pytest.skip(str(error))
    with other, socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield canary, server, other._box.pid
        assert other(ONE) == ONE[0, 1]


@pytest.fixture(scope="module")
def attacker(way: Way, outside: tuple[Path, socket.socket, int]) -> Iterator[RewardWorker]:
    """Makes the attack whose place in REFUSED is the row's number of steps; its own try at the trainer's secret too."""
    canary, server, other = outside
    facts = {
        "folder": str(canary.parent),
        "canary": str(canary),
        "project": str(BOX),
        "parent": os.getpid(),
        "other": other,
        "port": server.getsockname()[1],
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOTLAP_SECRET", "secret")
        worker = box(attack(*(body.format(**facts) for body in REFUSED.values())), way)
    with worker:
        yield worker


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused(name: str, attacker: RewardWorker, outside: tuple[Path, socket.socket, int]) -> None:
    canary, server, _ = outside
    row = ONE.copy()
    row[0, COLUMN["steps"]] = list(REFUSED).index(name)
    assert attacker(row) == 0.0
    with pytest.raises(BlockingIOError):
        server.accept()
    assert canary.read_text() == "alive"
    assert list(canary.parent.iterdir()) == [canary]


# Numbers of the x86-64 kernel; what a library's function does before it asks does not matter here.
CALLS = {
    "socket": 41,
    "clone": 56,
    "fork": 57,
    "vfork": 58,
    "execve": 59,
    "kill": 62,
    "shmget": 29,
    "pause": 34,
    "semget": 64,
    "msgget": 68,
    "truncate": 76,
    "ftruncate": 77,
    "chdir": 80,
    "rename": 82,
    "mkdir": 83,
    "creat": 85,
    "link": 86,
    "unlink": 87,
    "symlink": 88,
    "chmod": 90,
    "chown": 92,
    "ptrace": 101,
    "setuid": 105,
    "setresuid": 117,
    "setgroups": 116,
    "capset": 126,
    "rt_sigqueueinfo": 129,
    "mknod": 133,
    "personality": 135,
    "setpriority": 141,
    "sched_setscheduler": 144,
    "prctl": 157,
    "chroot": 161,
    "mount": 165,
    "umount2": 166,
    "init_module": 175,
    "tkill": 200,
    "sched_setaffinity": 203,
    "mq_open": 240,
    "kexec_load": 246,
    "add_key": 248,
    "keyctl": 250,
    "unshare": 272,
    "splice": 275,
    "signalfd4": 289,
    "eventfd2": 290,
    "epoll_create1": 291,
    "pipe2": 293,
    "perf_event_open": 298,
    "open_by_handle_at": 304,
    "setns": 308,
    "process_vm_readv": 310,
    "process_vm_writev": 311,
    "seccomp": 317,
    "memfd_create": 319,
    "bpf": 321,
    "execveat": 322,
    "userfaultfd": 323,
    "pkey_alloc": 330,
    "pidfd_send_signal": 424,
    "io_uring_setup": 425,
    "open_tree": 428,
    "fsopen": 430,
    "pidfd_open": 434,
    "clone3": 435,
    "openat2": 437,
    "pidfd_getfd": 438,
    "landlock_create_ruleset": 444,
    "memfd_secret": 447,
}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers are those of x86-64")
def test_calls_to_the_kernel_are_refused(way: Way) -> None:
    numbers = list(CALLS.values())
    source = attack(f"""
        for number in {numbers}:
            ctypes.set_errno(0)
            if libc.syscall(ctypes.c_long(number), *[ctypes.c_long(0)] * 6) != -1 or ctypes.get_errno() not in (1, 38):
                return float(number)
        return 0.0
    """)
    with box(source, way) as worker:
        assert worker(ONE) == 0.0


MACHINE_CODE = """
import mmap
page = mmap.mmap(-1, 4096, prot=7)
page.write(bytes.fromhex("b814000000cd80c3"))  # getpid as a 32-bit program asks
ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
"""
ENDS = {
    "leave": ("os._exit(0)", "ended by itself"),
    "leave politely": ("sys.exit(3)", "SystemExit: 3"),
    "crash in C": ("ctypes.string_at(0)", "died of signal 11"),
    "abort": ("libc.abort()", "died of signal 11"),
    "overflow the stack": (
        "sys.setrecursionlimit(1 << 30)\ndef deeper(x): return sorted([x], key=deeper)\ndeeper(1)",
        "died of signal 11",
    ),
    "close all descriptors": ("os.closerange(0, 64)", "ended by itself"),
    "loop": ("while True: pass", r"took longer than 0\.3 s in line 6 for 1 calls"),
    "loop and hold on": (
        "while True:\n    try:\n        while True: id(0)\n    except BaseException: pass",
        r"took longer than 0\.3 s .*for 1 calls",
    ),
    "ignore the alarm": (
        "signal.signal(signal.SIGALRM, signal.SIG_IGN)\nwhile True: pass",
        r"took longer than 0\.3 s for 1 calls",
    ),
    "loop in C": ("bytes(1 << 26).count(b'a' * (1 << 12)) and None\nwhile all([1] * 1000000): pass", "took longer"),
    "wait": ("select.select([], [], [])", "took longer"),
    "read the next request": ("os.read(0, 1)", "took longer"),
    "fill the error pipe": (
        "fcntl.fcntl(2, fcntl.F_SETFL, 0)\nwhile True: os.write(2, bytes(1 << 16))",
        "took longer",
    ),
    "fill the answers": ("while True: os.write(3, bytes(1 << 16))", "nobody asked for"),
    "ask as a 32-bit program": (MACHINE_CODE, "died of signal 31"),
    "ask by the x32 numbers": ("libc.syscall(ctypes.c_long(0x40000000 | 39))", "died of signal 31"),
}


@pytest.mark.parametrize(("body", "said"), ENDS.values(), ids=ENDS)
def test_it_ends_only_the_box(body: str, said: str, way: Way) -> None:
    if "signal 31" in said and platform.machine() != "x86_64":
        pytest.skip("only x86-64 has two other ways to ask")
    with box(attack(body), way, seconds=0.3 if "took" in said else 5.0) as worker:
        family = _family(worker._box.pid)
        with pytest.raises(RewardError, match=said) as caught:
            worker(ONE)
        assert len(str(caught.value)) < 500
        if said != "SystemExit: 3":
            with pytest.raises(RewardError, match=said):  # for good
                worker(ONE)
            assert _ended(family)
    survived(way)


def test_closing_leaves_nothing_behind(way: Way) -> None:
    with box(HARMLESS, way) as worker:
        family = _family(worker._box.pid)
        assert len(family) == (3 if way == "bubblewrap" else 1)
    assert _ended(family)


TRAINER = """
import sys
from cloud_trainer.reward import RewardWorker
from cloud_trainer.trial import TRIAL_LENGTH, TRIAL_ROUTE, trial_rows

source = "def reward_function(params):\\n    while True: id(0)\\n"
worker = RewardWorker(source, TRIAL_ROUTE, TRIAL_LENGTH, ways=(sys.argv[1],), seconds=100.0)
print(worker._box.pid, flush=True)
worker(trial_rows(0))
"""


def test_a_box_does_not_outlive_its_trainer(way: Way) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", TRAINER, way], stdout=subprocess.PIPE, cwd=BOX.parent.parent
    ) as trainer:
        assert trainer.stdout
        family = _family(int(trainer.stdout.readline()))
        trainer.kill()
    assert _ended(family)


def _family(pid: int) -> list[int]:
    """Handles (pidfd) of the process and of those below it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [os.pidfd_open(pid), *(member for child in children for member in _family(int(child)))]


def _ended(family: list[int]) -> bool:
    """Whether all of them come to their end; a killed process may take its time to be gone. Closes the handles."""
    ended = [bool(select.select([member], [], [], 10.0)[0]) for member in family]
    for member in family:
        os.close(member)
    return all(ended)


def test_much_output_does_no_harm(way: Way) -> None:
    source = attack("""
        for _ in range(100):
            print("x" * (1 << 20)); sys.stderr.write("y" * (1 << 20))
            for descriptor in 1, 2:
                try: os.write(descriptor, b"z" * (1 << 16))
                except BlockingIOError: pass
        return 0.5
    """)
    with box(source, way) as worker:
        assert worker(ONE) == 0.5


LONG = {
    "a long text": "raise ValueError('x' * (1 << 20))",
    "a long name": "raise type('x' * (1 << 20), (Exception,), {})",
    "terminal codes": r"raise LookupError('\x1b[2J\x1b]0;x\x07' + '\n' * 1000)",
    "no text": "class E(Exception):\n    def __str__(self): raise self\nraise E",
    "text that is none": "class E(Exception):\n    def __str__(self): return 3\nraise E",
}


@pytest.mark.parametrize("body", LONG.values(), ids=LONG)
def test_an_exception_is_told_in_one_short_line(body: str, way: Way) -> None:
    body = textwrap.indent(body, "    ")
    with box(f"def reward_function(params):\n{body}\n", way) as worker:
        with pytest.raises(RewardError, match="reward_function failed in line") as caught:
            worker(ONE)
        assert len(str(caught.value)) < 400
        assert str(caught.value).isprintable()
        with pytest.raises(RewardError, match="reward_function failed in line"):  # it goes on
            worker(ONE)


REPLY = "<QIIII"
FORGED = {
    "too much": struct.pack(REPLY, 1, 0, 0, 0, 8) + struct.pack("<d", 1e9),
    "not finite": struct.pack(REPLY, 1, 0, 0, 0, 8) + struct.pack("<d", float("nan")),
    "another's number": struct.pack(REPLY, 7, 0, 0, 0, 8) + struct.pack("<d", 1.0),
    "too many": struct.pack(REPLY, 1, 0, 0, 0, 80) + bytes(80),
    "too few": struct.pack(REPLY, 1, 0, 0, 0, 0),
    "an unknown kind": struct.pack(REPLY, 1, 9, 0, 0, 8) + bytes(8),
    "an endless text": struct.pack(REPLY, 1, 1, 0, 0, 2**32 - 1) + b"x" * 60000,
    "a far row": struct.pack(REPLY, 1, 1, 2**32 - 1, 0, 4) + b"text",
    "a far line": struct.pack(REPLY, 1, 1, 0, 2**32 - 1, 2) + b"\xff\xfe",
    "noise": bytes(range(256)) * 100,
    "a pickle": b"cos\nsystem\n(S'true'\ntR." + bytes(64),
}


@pytest.mark.parametrize("frame", FORGED.values(), ids=FORGED)
def test_a_forged_answer_is_an_error(frame: bytes, way: Way) -> None:
    with box(attack(f"os.write(3, {frame!r})"), way) as worker, pytest.raises(RewardError):
        worker(ONE)


def test_a_forger_who_knows_the_number_is_found_out_at_the_next_call(way: Way) -> None:
    frame = struct.pack(REPLY, 1, 0, 0, 0, 8) + struct.pack("<d", 3.0)
    with box(attack(f"os.write(3, {frame!r})\nreturn 0.0"), way) as worker:
        assert worker(ONE) == 3.0
        with pytest.raises(RewardError, match="nobody asked for"):
            worker(ONE)


ODD = {
    "a float that is none": "class R(float):\n    def __float__(self): return 'x'\nreturn R()",
    "a float that raises": "class R(int):\n    def __float__(self): raise KeyboardInterrupt\nreturn R()",
    "a class that lies": "class R:\n    __class__ = float\n    def __float__(self): return 1e9\nreturn R()",
}


@pytest.mark.parametrize("body", ODD.values(), ids=ODD)
def test_what_only_looks_like_a_number_is_an_error(body: str, way: Way) -> None:
    body = textwrap.indent(body, "    ")
    with box(f"def reward_function(params):\n{body}\n", way) as worker, pytest.raises(RewardError, match="line"):
        worker(ONE)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import os; os._exit(1)", "ended by itself"),
        ("while True: pass", r"took longer than 0\.3 s in line 1 for its start"),
        ("import ctypes; ctypes.string_at(0)", "died of signal 11"),
        ("x = bytearray(1 << 30)", "cannot start in line 1: it needs more memory"),
        ("raise SystemExit", "cannot start in line 1: SystemExit"),
        ("def reward_function(params) return 1", "cannot start in line 1: syntax error"),
        ("x = 1", "cannot start: there is no reward_function"),
        ("import torch\ndef reward_function(params): return 1", "cannot start in line 1: ModuleNotFoundError"),
        ("\0", "cannot start"),
        ("\ud800", "cannot start"),
    ],
)
def test_a_file_that_cannot_even_start(source: str, said: str, way: Way) -> None:
    with pytest.raises(RewardError, match=said):
        box(source, way, seconds=0.3 if "took" in said else 5.0)


def test_the_packages_work_in_the_box(way: Way) -> None:
    source = """
import numpy as np
from scipy.spatial import KDTree
from shapely.geometry import LineString, Point

def reward_function(params):
    line = LineString(params["waypoints"])
    here = (params["x"], params["y"])
    near = KDTree(np.array(params["waypoints"])).query(here)[0]
    return np.linalg.solve(np.eye(200), np.ones(200)).sum() - 200.0 + min(near, line.distance(Point(here)))
"""
    with box(source, way, seconds=10.0) as worker:
        assert worker(ONE) == pytest.approx(0.0, abs=1e-9)


def test_nothing_confines_and_nobody_trusts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confine, "_bubblewrap", lambda: "bubblewrap is not installed")
    monkeypatch.setattr(confine, "_landlock", lambda: "this kernel has no Landlock")
    with pytest.raises(RewardError, match=r"Nothing here can confine .*not installed; this kernel has no Landlock"):
        RewardWorker(HARMLESS, TRIAL_ROUTE, TRIAL_LENGTH)
    with RewardWorker(HARMLESS, TRIAL_ROUTE, TRIAL_LENGTH, trust=True) as worker:
        assert worker.way == "trusted"
        assert worker(ONE) == ONE[0, 1]


def test_the_strongest_way_that_works_is_taken() -> None:
    works = [way for way in ("bubblewrap", "landlock") if isinstance(confinement(way), Confinement)]
    if not works:
        pytest.skip("nothing confines here")
    with RewardWorker(HARMLESS, TRIAL_ROUTE, TRIAL_LENGTH, trust=True) as worker:
        assert worker.way == works[0]
        assert np.array_equal(worker(trial_rows(0)), trial_rows(0)[:, 1])
