"""wifi-creds.txt, the file on a USB drive that names Wi-Fi networks, as people really write it.

    # a comment
    ssid: 'My network'
    password: 'its password'

Also read: UTF-8, UTF-16 and Windows' old letters, every kind of line end and of quotation mark, `=` for the colon,
capital keys, no quotation marks, several networks one after the other, and `hidden: yes` below a network that hides.
A name is shown to everybody, so one that may hold a password is refused, not guessed at.

    CredsError (ValueError)   this is no such file; says in which line, and what to do
"""

from __future__ import annotations

import codecs
import difflib
import re
import unicodedata
from dataclasses import dataclass, field
from typing import Final

LARGEST_FILE: Final = 64 * 1024
LONGEST_NAME: Final = 32
"""Bytes of a network's name, IEEE 802.11-2020, 9.4.2.2."""

_KEYS: Final = {
    **dict.fromkeys(("ssid", "network", "name", "network name"), "ssid"),
    **dict.fromkeys(("password", "passwd", "pwd", "psk", "passphrase"), "password"),
    "hidden": "hidden",
    "connection": "",  # the stock car knows these two, and does nothing with them
    "forceconnect": "",
}
# What word processors make of ' and ", written as numbers because they look alike.
_QUOTES: Final = ("'\u2018\u2019\u201a\u201b`\u00b4\u2032", '"\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb')
_COLONS: Final = ":=\uff1a"
_AROUND: Final = rf"[\s{''.join(_QUOTES)}]*"
_LINE: Final = re.compile(rf"{_AROUND}([^\W_]+(?:[ \t]+[^\W_]+)?){_AROUND}[{_COLONS}](.*)", re.DOTALL)
_BARE: Final = re.compile(r"\s*(ssid|password)[ \t]+(.*)", re.DOTALL | re.IGNORECASE)
_REST: Final = re.compile(r"\s*(#.*)?", re.DOTALL)
_ESCAPED: Final = re.compile(r"\\x[0-9a-f]{2}")
"""How a byte of a name that is not UTF-8 is shown, and so written."""
_SECRETS: Final = ("password", "passwd", "passphrase", "pwd", "psk")
_SETTINGS: Final = (*_KEYS, "pass", "key", "pw")
_WORD: Final = re.compile(rf"([^\W_]+)({_AROUND}[{_COLONS}])?")
_TWO: Final = re.compile("|".join(rf"[{kind}][\s,;/|]+[{kind}]" for kind in _QUOTES))
_INVISIBLE: Final = "\ufeff\u200b\u200e\u200f\u2060"
_FORMATS: Final = (
    (b"{\\rtf", "rich text"),
    (b"PK\x03\x04", "a word processor's document"),
    (b"\xd0\xcf\x11\xe0", "a word processor's document"),
    (b"%PDF", "a PDF document"),
    (b"bplist", "a web archive"),
    (b"<", "a web page"),
)


class CredsError(ValueError):
    """`line` counts from 1; 0 is the file as a whole. The text never repeats what may be a password."""

    def __init__(self, line: int, sentence: str) -> None:
        super().__init__(f"Line {line}: {sentence}" if line else sentence)
        self.line = line


@dataclass(frozen=True, slots=True)
class Credentials:
    """One network to join; an empty password is that of an open network."""

    ssid: str
    password: str = field(default="", repr=False)
    hidden: bool = False


@dataclass(slots=True)
class _Entry:
    line: int
    ssid: str
    password: str | None = field(default=None, repr=False)
    hidden: bool = False


def parse(data: bytes) -> list[Credentials]:
    """The networks in the order of the file; none when it is only a form that nobody filled in. Raises CredsError."""
    text, _ = decode(data)
    lines = enumerate(re.split(r"\r\n|\r|\n", text), 1)
    pairs = [(number, *pair) for number, line in lines if (pair := _read_line(number, line))]
    return [Credentials(each.ssid, each.password or "", each.hidden) for each in _gather(pairs)]


def decode(data: bytes) -> tuple[str, str]:
    """The text, without its byte-order mark, and Python's name of its encoding. Raises CredsError."""
    if len(data) > LARGEST_FILE:
        raise CredsError(0, f"The file is larger than {LARGEST_FILE // 1024} KB; write only the networks into it.")
    start = data.removeprefix(codecs.BOM_UTF8).lstrip()
    for magic, name in _FORMATS:
        if start.startswith(magic):
            raise CredsError(
                0, f"The file was saved as {name}; save it as plain text (in TextEdit: Format, Make Plain Text)."
            )
    try:
        return _decode(data)
    except UnicodeDecodeError:
        raise CredsError(0, "The file is no text; save it as plain text, UTF-8.") from None  # it would repeat the bytes


def _decode(data: bytes) -> tuple[str, str]:
    if data.startswith(codecs.BOM_UTF8):
        return data.decode("utf-8-sig"), "utf-8-sig"
    for mark, encoding in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        if data.startswith(mark):
            return data[2:].decode(encoding), encoding
    if b"\0" in data:  # UTF-16 without its mark: the letters of the keys have one empty byte each
        encoding = "utf-16-le" if data[1::2].count(0) >= data[::2].count(0) else "utf-16-be"
        return data.decode(encoding), encoding
    try:
        return data.decode(), "utf-8"
    except UnicodeDecodeError:
        return data.decode("cp1252"), "cp1252"


def _read_line(number: int, line: str) -> tuple[str, str] | None:
    """Key and value; None where there is nothing to read."""
    line = line.strip().strip(_INVISIBLE).strip()
    if not line or line.startswith("#"):
        return None
    found = _LINE.match(line)
    word = " ".join(found[1].casefold().split()) if found else ""
    if found and word in _KEYS:
        key = _KEYS[word]
    elif bare := _BARE.match(line):
        found, key = bare, bare[1].casefold()
    else:
        near = difflib.get_close_matches(word, ("ssid", "password", "hidden"), 1)
        hint = (
            f"did you mean {near[0]}?" if near else "write ssid: 'name' or password: 'password', or # before a remark."
        )
        raise CredsError(number, f"This is no setting that the car knows; {hint}")
    if not key:
        return None
    value, whole = _read_value(found[2].strip())
    if key == "ssid":
        _check_name(number, value)
        if not whole:
            raise CredsError(
                number, "The quotation mark at the start has no partner; put one at the end, or remove it."
            )
    return key, value


def _read_value(value: str) -> tuple[str, bool]:
    """Without its quotation marks, the last of which ends it; only a comment may follow. And whether they pair.

    One without a partner belongs to the value: a password may begin with any sign.
    """
    quotes = next((kind for kind in _QUOTES if value[:1] and value[0] in kind), "")
    ends = (at for at in range(len(value) - 1, 0, -1) if value[at] in quotes and _REST.fullmatch(value, at + 1))
    if (end := next(ends, None)) is not None:
        return value[1:end], True
    return value.strip(_INVISIBLE).strip(), not quotes


def _check_name(number: int, name: str) -> None:
    length = len(_ESCAPED.sub("?", name).encode())
    if length > LONGEST_NAME:
        raise CredsError(
            number,
            f"The name of a network has at most {LONGEST_NAME} bytes, and this one {length}; write the password, and "
            "whatever else stands there, on a line of its own.",
        )
    if tells_a_password(name):
        raise CredsError(
            number,
            "A password seems to stand behind the network's name; write it on a line of its own. If the network is "
            "really called so, join it by the car's console.",
        )


def tells_a_password(name: str) -> bool:
    """Whether what is given as a network's name may hold a password too, so that it must not be repeated."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    if _TWO.search(folded) or any(word + colon in folded for word in _SECRETS for colon in _COLONS):
        return True
    for word, colon in _WORD.findall(folded):
        if difflib.get_close_matches(word, _SETTINGS if colon else _SECRETS, 1, 0.75 if colon else 0.81):
            return True
    return False


def _gather(pairs: list[tuple[int, str, str]]) -> list[_Entry]:
    """Which password belongs to which name: the one below it, or above it in a file that begins with a password.

    A password below an empty name is that of the first later network that has none: whoever filled in the form's
    password and then took the # from a name below it.
    """
    entries: list[_Entry] = []
    spare: tuple[int, str] | None = None
    password_first = bool(pairs) and pairs[0][1] == "password"
    waiting: str | None = None
    for number, key, value in pairs:
        last = entries[-1] if entries else None
        if key == "ssid":
            entries.append(_Entry(number, value, waiting))
            waiting = None
        elif key == "hidden":
            if last is not None:
                last.hidden = value.casefold() in ("yes", "true", "1", "on")
        elif password_first or last is None:
            waiting = value
        elif last.password not in (None, "", value):
            raise CredsError(number, "This network has two passwords; keep one of them, or write an ssid above each.")
        elif last.ssid or not value:
            last.password = value or last.password
        else:
            spare = (number, value)
    for entry in entries:
        if spare and entry.ssid and not entry.password:
            entry.password, spare = spare[1], None
    if spare or waiting:
        number = spare[0] if spare else pairs[-1][0]
        raise CredsError(number, "This password has no network; write the network's name (ssid) between the quotes.")
    return [entry for entry in entries if entry.ssid]
