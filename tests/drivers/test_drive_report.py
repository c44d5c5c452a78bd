"""The words that are left on a drive: whatever stands there, they change no meaning and replace their own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drivers import drive_report, wifi_creds
from drivers.wifi_creds import CredsError

CREDS = "# mine\r\nssid: 'Home'\r\npassword: 'canary-password'\r\n"
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=80) | st.sampled_from(
    [CREDS, "ssid: 'a'\npassword: 'b'", "# >>> host\n# x\n# <<< host\nssid: a\n", "# >>> host\n# mine\n"]
)
REMARKS = st.lists(st.text(max_size=20), max_size=4)


@given(TEXTS, st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "cp1252"]), REMARKS, REMARKS)
def test_remarks_are_replaced_and_change_no_meaning(
    text: str, encoding: str, first: list[str], second: list[str]
) -> None:
    data = text.encode(encoding, "ignore")
    try:
        before = wifi_creds.parse(data)
    except CredsError:
        return
    once = drive_report.annotate(data, "host", first)
    assert wifi_creds.parse(once) == before
    twice = drive_report.annotate(once, "host", second)
    assert wifi_creds.parse(twice) == before
    assert drive_report.annotate(twice, "host", second) == twice
    another = drive_report.annotate(twice, "other", first)
    assert drive_report.annotate(another, "host", second) == drive_report.annotate(another, "host", second)
    if "# >>>" not in text:
        assert once.startswith(data) or encoding == "cp1252"
        assert drive_report.annotate(data, "host", second) == twice


@given(st.binary(max_size=200), st.lists(st.text(max_size=30), max_size=4))
def test_a_block_replaces_that_of_the_same_car_whatever_stands_there(old: bytes, lines: list[str]) -> None:
    block = ["Hostname: Host-7", *lines]
    once = drive_report.merge(old, block)
    assert drive_report.merge(once, block) == once
    other = drive_report.merge(once, ["Hostname: other", "x"])
    assert b"Hostname: other\nx\n" in other
    assert drive_report.merge(other, block).count(b"Hostname: Host-7") == other.count(b"Hostname: Host-7")


def test_remarks_of_very_many_visits_are_replaced() -> None:
    marks = "# >>> car\n" * 6000
    for text in (marks, marks + "# <<< car\n"):
        after = drive_report.annotate(text.encode(), "car", ["x"]).decode()
        assert after.endswith("# >>> car\n# x\n# <<< car\n")
