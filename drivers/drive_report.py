"""What the car writes on a USB drive: its block in device-status.txt, its words at the bottom of wifi-creds.txt."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from drivers.wifi import Place, Security, Seen
from drivers.wifi_creds import LARGEST_FILE, CredsError, decode

LARGEST_STATUS: Final = 256 * 1024
MOST_SEEN: Final = 20
"""Networks in reach that are offered."""

_LINE: Final = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+$")


def block(host: str, when: str, lines: Sequence[str], ssid: str | None, places: Sequence[Place]) -> list[str]:
    """A car's block in the words of the stock car; `lines` are what this one has to say besides."""
    return [
        f"Hostname: {host}",
        f"Timestamp: {when}",
        *lines,
        f"Connected to WiFi network: {ssid}" if ssid else "Not connected to WiFi network.",
        "Active connections:",
        *(f"  {place.interface}: {place.address}" for place in places),
    ]


def merge(old: bytes, block: Sequence[str]) -> bytes:
    """The file with this block in place of the one with the same first line; those of other cars are kept.

    `old` is the file, or its last LARGEST_STATUS bytes, and the blocks that were written first go when there are too
    many: what comes back has LARGEST_STATUS bytes at the most, unless this block alone has more.
    """
    text = old.decode("utf-8", "surrogateescape").replace("\r\n", "\n").replace("\r", "\n")
    blocks = [part.strip("\n") for part in re.split(r"\n[ \t]*\n", text)]
    if len(old) >= LARGEST_STATUS:
        del blocks[0]  # it may be the end of one
    others = [part for part in blocks if part and part.split("\n")[0].strip().casefold() != block[0].casefold()]
    ours = "\n".join(line for line in map(one_line, block) if line.strip())  # an empty line would end the block
    parts = [part.encode("utf-8", "surrogateescape") for part in (*others, ours)]
    room = LARGEST_STATUS - sum(len(part) + 2 for part in parts)
    while room < 0 and len(parts) > 1:
        room += len(parts.pop(0)) + 2
    return b"\n\n".join(parts) + b"\n"


def annotate(creds: bytes, host: str, remarks: Sequence[str]) -> bytes:
    """The file with these remarks as comments at its bottom, in place of those of the same car's last visit.

    Every other line stays as it is, and so does what was taken out of the comments since. Raises CredsError when it is
    no text; one that would grow too large to be read again comes back unchanged.
    """
    text, encoding = decode(creds)
    mark = creds[:2] if encoding.startswith("utf-16") and creds[:2] in (b"\xff\xfe", b"\xfe\xff") else b""
    lines = _LINE.findall(text)
    ends = re.findall(r"\r\n|\r|\n", text)
    end = ends[0] if ends else "\n"
    first, last = f"# >>> {one_line(host)}", f"# <<< {one_line(host)}"
    ends_at = max((place for place, line in enumerate(lines) if line.strip() == last), default=-1)
    kept, ours = [], False
    for place, line in enumerate(lines):
        bare = line.strip()
        if bare == first:
            ours = place < ends_at
        elif bare == last:
            ours = False
        elif not ours or (bare and not bare.startswith("#")):
            kept.append(line)
    if kept and not kept[-1].endswith(("\r", "\n")):
        kept[-1] += end
    words = [first, *(f"# {one_line(remark)}" for remark in remarks), last]
    whole = "".join([*kept, *(word + end for word in words)])
    try:
        data = mark + whole.encode(encoding)
    except UnicodeEncodeError:  # Windows' old letters have no word for this network
        data = whole.encode()
    return data if len(data) <= LARGEST_FILE else creds


def is_annotated(creds: bytes) -> bool:
    """Whether this is the whole of what `annotate` made: its last line is there."""
    try:
        text, _ = decode(creds)
    except CredsError:
        return False
    lines = text.splitlines(keepends=True)
    return bool(lines) and lines[-1].startswith("# <<< ") and lines[-1].endswith(("\r", "\n"))


def offer(seen: Sequence[Seen]) -> list[str]:
    """Remarks from which a person picks a network by removing a #."""
    named = [each for each in seen if each.ssid.isprintable() and each.ssid.strip()][:MOST_SEEN]
    if not named:
        return ["No Wi-Fi network is in reach."]
    lines = ["Networks in reach. Remove the # in front of yours, and in front of its password, which you fill in:"]
    for each in named:
        lines.append(f"ssid: '{each.ssid}'  # {each.strength} %, {each.security}")
        if each.security not in (Security.OPEN, Security.OWE):
            lines.append("password: ''")
    return lines


def one_line(text: str) -> str:
    """Nothing that a network or a file calls itself may begin a line of its own."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)
