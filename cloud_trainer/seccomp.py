"""What a reward function may ask of the kernel, as a seccomp program: an allow-list, assembled by hand.

Everything else is refused with EPERM, so that libraries fall back as they do on an old kernel: no sockets, no
processes, no threads, no signals, no new programs, no namespaces, no file opened for writing. Which files can be read
is not decided here (a filter sees no paths) but by the mount namespace and by Landlock.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable, Mapping
from typing import Final

_X86_64: Final = {
    "read": 0, "write": 1, "open": 2, "close": 3, "stat": 4, "fstat": 5, "lstat": 6, "poll": 7, "lseek": 8, "mmap": 9,
    "mprotect": 10, "munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "ioctl": 16,
    "pread64": 17, "readv": 19, "writev": 20, "select": 23, "sched_yield": 24, "mremap": 25, "madvise": 28, "dup": 32,
    "dup2": 33, "nanosleep": 35, "getitimer": 36, "setitimer": 38, "getpid": 39, "exit": 60, "uname": 63, "fcntl": 72,
    "getcwd": 79, "gettimeofday": 96, "getrlimit": 97, "getrusage": 98, "sysinfo": 99, "times": 100, "getuid": 102,
    "getgid": 104, "geteuid": 107, "getegid": 108, "getppid": 110, "sigaltstack": 131, "gettid": 186, "time": 201,
    "futex": 202, "sched_getaffinity": 204, "getdents64": 217, "restart_syscall": 219, "clock_gettime": 228,
    "clock_getres": 229, "clock_nanosleep": 230, "exit_group": 231, "openat": 257, "newfstatat": 262, "pselect6": 270,
    "ppoll": 271, "set_robust_list": 273, "dup3": 292, "prlimit64": 302, "getcpu": 309, "getrandom": 318, "statx": 332,
    "rseq": 334, "clone3": 435,
}  # fmt: skip
_AARCH64: Final = {
    "getcwd": 17, "dup": 23, "dup3": 24, "fcntl": 25, "ioctl": 29, "openat": 56, "close": 57, "getdents64": 61,
    "lseek": 62, "read": 63, "write": 64, "readv": 65, "writev": 66, "pread64": 67, "pselect6": 72, "ppoll": 73,
    "newfstatat": 79, "fstat": 80, "exit": 93, "exit_group": 94, "futex": 98, "set_robust_list": 99, "nanosleep": 101,
    "getitimer": 102, "setitimer": 103, "clock_gettime": 113, "clock_getres": 114, "clock_nanosleep": 115,
    "sched_getaffinity": 123, "sched_yield": 124, "restart_syscall": 128, "sigaltstack": 132, "rt_sigaction": 134,
    "rt_sigprocmask": 135, "rt_sigreturn": 139, "times": 153, "uname": 160, "getrlimit": 163, "getrusage": 165,
    "getcpu": 168, "gettimeofday": 169, "getpid": 172, "getppid": 173, "getuid": 174, "geteuid": 175, "getgid": 176,
    "getegid": 177, "gettid": 178, "sysinfo": 179, "brk": 214, "munmap": 215, "mremap": 216, "mmap": 222,
    "mprotect": 226, "madvise": 233, "prlimit64": 261, "getrandom": 278, "statx": 291, "rseq": 293, "clone3": 435,
}  # fmt: skip
_ARCHITECTURES: Final[Mapping[str, tuple[int, Mapping[str, int]]]] = {
    "x86_64": (0xC000003E, _X86_64),
    "aarch64": (0xC00000B7, _AARCH64),
}
"""By machine: how the kernel calls it (AUDIT_ARCH), and the allowed calls' numbers."""

_WRITING: Final = 0o1 | 0o2 | 0o100 | 0o1000 | 0o20000000
"""O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, and O_TMPFILE's own bit."""
_ONLY: Final = {
    # Duplicates, flags: but no F_SETOWN, with which a pipe could be made to send a signal to another process.
    "fcntl": (1, (0, 1, 2, 3, 4, 1030)),
    # FIOCLEX and FIONCLEX, TCGETS (isatty), FIONREAD.
    "ioctl": (1, (0x5451, 0x5450, 0x5401, 0x541B)),
    # Of itself.
    "prlimit64": (0, (0,)),
}
"""Calls of which one argument (its place) must be one of a few values."""

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_X32: Final = 0x40000000

Instruction = tuple[int, int, int, int]
"""Code, steps to jump if true, if false, operand: a struct sock_filter."""


def program(machine: str) -> bytes | None:
    """The filter for a machine as platform.machine() names it: struct sock_filter[n]; None where none is known."""
    if machine not in _ARCHITECTURES:
        return None
    architecture, numbers = _ARCHITECTURES[machine]
    code: list[Instruction] = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, 0)]
    if machine == "x86_64":
        code += [(_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _KILL)]
    for name, number in numbers.items():
        body = list(_answer(name))
        code += [(_EQUAL, 0, len(body), number), *body]
    code.append(_refuse(errno.EPERM))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _answer(name: str) -> Iterable[Instruction]:
    """What follows once the call is known; every way through it ends in a return."""
    if name == "clone3":
        return [_refuse(errno.ENOSYS)]  # so that the C library asks for clone, and hears the refusal
    if name in ("open", "openat"):
        flags = 1 if name == "open" else 2
        return [_load(flags), (_ANY_BIT, 0, 1, _WRITING), _refuse(errno.EPERM), (_RETURN, 0, 0, _ALLOW)]
    if name in _ONLY:
        place, values = _ONLY[name]
        tests = [step for value in values for step in ((_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ALLOW))]
        return [_load(place), *tests, _refuse(errno.EPERM)]
    return [(_RETURN, 0, 0, _ALLOW)]


def _load(place: int) -> Instruction:
    """The lower half of an argument; the kernel itself reads no more of those that are tested here."""
    return (_LOAD, 0, 0, 16 + 8 * place)


def _refuse(number: int) -> Instruction:
    return (_RETURN, 0, 0, 0x00050000 | number)
