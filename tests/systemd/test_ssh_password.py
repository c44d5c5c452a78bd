"""scripts/ssh-password: its line of input, and the system's own chpasswd beneath it, on a copy of /etc."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import shutil
import subprocess
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

PROGRAM = Path(__file__).parents[2] / "scripts" / "ssh-password"
NEW = "drei: Wälder ☃ im Öl"


def load() -> ModuleType:
    loader = SourceFileLoader("ssh_password", str(PROGRAM))
    spec = spec_from_loader("ssh_password", loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def program() -> ModuleType:
    return load()


# The line -----------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=700) | st.text(max_size=140).map(lambda text: text.encode("utf-8", "surrogatepass") + b"\n"))
@example(b"three odd walruses\n")
@example(b"three odd walruses")
@example(b"three odd walruses\nroot:three odd walruses\n")
@example("\U0001f697".encode() * 128 + b"\n")
@example(b"x" * 128 + b"\n")
@example(b"eight\x00ch\n")
@example("eight\u2028ch\n".encode())
def test_one_line_is_a_password_or_is_refused_in_a_sentence(program: ModuleType, sent: bytes) -> None:
    there, here = os.pipe()
    os.write(here, sent)
    os.close(here)
    try:
        password, refusal = program.parse(program.read_line(there)), ""
    except program.Refused as error:
        password, refusal = "", str(error)
    finally:
        os.close(there)
    if refusal:
        assert refusal.endswith(".")
        assert "\n" not in refusal
    else:
        assert password.encode() + b"\n" == sent
        assert 8 <= len(password) <= 128
        assert len(sent) <= 512
        assert not [letter for letter in password if ord(letter) < 32 or 127 <= ord(letter) < 160]


def test_a_line_is_taken_in_pieces_and_is_not_read_for_ever(program: ModuleType) -> None:
    there, here = os.pipe()
    with subprocess.Popen(("sh", "-c", "printf three; printf ' odd walr'; printf 'uses\\n'"), stdout=here):
        assert program.read_line(there) == b"three odd walruses"
    os.write(here, b"x" * 10_000)
    with pytest.raises(program.Refused):
        program.read_line(there)
    os.close(here)
    os.close(there)


# The system ---------------------------------------------------------------------------------------------------------


class Machine:
    """A copy of /etc that the program takes for the real one; `pit` is a person's account, `pump` a service's."""

    def __init__(self, folder: Path) -> None:
        self.etc = folder / "etc"
        subprocess.run(("cp", "-a", "/etc", folder), check=True)
        for name, uid in (("pit", 1000), ("pump", 999)):
            self.add("passwd", f"{name}:x:{uid}:{uid}::/:/bin/sh")
            self.add("shadow", f"{name}:!:19000:0:99999:7:::")
        (self.etc / "hotlap").mkdir(exist_ok=True)
        self.name("pit\n")

    def add(self, file: str, line: str) -> None:
        with (self.etc / file).open("a") as end:
            end.write(f"{line}\n")

    def name(self, account: str) -> None:
        (self.etc / "hotlap" / "ssh-account").write_text(account)

    def hash_of(self, account: str) -> str:
        lines = (self.etc / "shadow").read_text().splitlines()
        return next(fields[1] for fields in map(str.split, lines, ":" * len(lines)) if fields[0] == account)

    def ask(self, line: str, tool: str = "") -> str:
        """What is answered. It is run without the privileges that the unit takes away; `tool` stands for chpasswd."""
        confine = "setpriv --bounding-set=-all,+chown --inh-caps=-all --no-new-privs"
        cover = f'mount --bind "{tool}" /usr/sbin/chpasswd;' if tool else ""
        done = subprocess.run(
            ("unshare", "-m", "sh", "-ec", f'mount --bind "{self.etc}" /etc; {cover} exec {confine} "{PROGRAM}"'),
            input=line.encode(),
            capture_output=True,
            check=False,
            timeout=50,
        )
        assert (done.returncode, done.stderr) == (0, b"")
        return done.stdout.decode()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    tools = ("unshare", "setpriv", "/usr/sbin/chpasswd", "/usr/bin/python3")
    if os.geteuid() != 0 or not all(map(shutil.which, tools)):
        pytest.skip("a password is set by root, with chpasswd, setpriv and unshare")
    if subprocess.run(
        ("unshare", "-m", "mount", "--bind", "/etc", "/etc"), capture_output=True, check=False
    ).returncode:
        pytest.skip("this machine lets nobody mount anything")
    return Machine(tmp_path)


def opens(hashed: str, password: str) -> bool:
    name = ctypes.util.find_library("crypt")
    if name is None:
        pytest.skip("there is no libcrypt on this machine")
    crypt = ctypes.CDLL(name).crypt
    crypt.restype = ctypes.c_char_p
    return bool(crypt(password.encode(), hashed.encode()) == hashed.encode())


def test_the_account_that_root_named_has_the_new_password_and_no_other_has(machine: Machine) -> None:
    before = (machine.etc / "shadow").stat()
    others = [machine.hash_of(name) for name in ("root", "pump")]
    assert machine.ask(f"{NEW}\n") == "ok\n"
    assert opens(machine.hash_of("pit"), NEW)
    assert [machine.hash_of(name) for name in ("root", "pump")] == others
    after = (machine.etc / "shadow").stat()
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)
    assert not [path for path in machine.etc.rglob("*") if path.is_file() and NEW.encode() in path.read_bytes()]


@pytest.mark.parametrize("account", ["root", "pump", "0", "nobody"])
def test_root_and_services_get_no_password(machine: Machine, account: str) -> None:
    machine.name(account)
    before = (machine.etc / "shadow").read_bytes()
    assert machine.ask("three odd walruses\n").endswith("as root.\n")
    assert (machine.etc / "shadow").read_bytes() == before


@pytest.mark.parametrize("account", ["", "\n", "gone", "pit:x\nroot", "-e", "pit pump", "../pit"])
def test_without_a_name_of_an_account_the_answer_says_what_to_do(machine: Machine, account: str) -> None:
    machine.name(account)
    before = (machine.etc / "shadow").read_bytes()
    assert machine.ask("three odd walruses\n").startswith("No account is named for it: write the name ")
    assert (machine.etc / "shadow").read_bytes() == before
    (machine.etc / "hotlap" / "ssh-account").unlink()
    assert machine.ask("three odd walruses\n").startswith("No account is named for it: ")


def test_what_is_no_line_sets_nothing(machine: Machine) -> None:
    for sent in ("", "three odd walruses", "short\n", "three odd walruses\nroot:three odd walruses\n"):
        answer = machine.ask(sent)
        assert answer.endswith(".\n")
        assert answer != "ok\n"
    assert machine.hash_of("pit") == "!"


def test_what_the_system_says_against_it_is_told_without_the_password(machine: Machine, tmp_path: Path) -> None:
    (machine.etc / "pam.d" / "chpasswd").write_text("password required pam_deny.so\n")
    answer = machine.ask("three odd walruses\n")
    assert answer.startswith("The system does not take this password: ")
    assert answer.count("\n") == 1
    assert machine.hash_of("pit") == "!"
    chatty = tmp_path / "chatty"
    chatty.write_text("#!/bin/sh\nprintf 'BAD PASSWORD:\\033[1m '; cat; printf 'is in a dictionary'; exit 1\n")
    chatty.chmod(0o755)
    answer = machine.ask("three  odd walruses\n", str(chatty))
    assert answer == "The system does not take this password: BAD PASSWORD:[1m pit:*** is in a dictionary.\n"
