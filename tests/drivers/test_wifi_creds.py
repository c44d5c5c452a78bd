"""wifi-creds.txt as people write it, and as nobody should."""

from __future__ import annotations

import contextlib
import traceback

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from drivers.wifi_creds import LARGEST_FILE, LONGEST_NAME, Credentials, CredsError, decode, parse, tells_a_password

STOCK = """\
####################################################################################
# Connect the AWS DeepRacer vehicle to Wi-Fi                                       #
# File name: wifi-creds.txt                                                        #
#                                                                                  #
# For example:                                                                     #
#     ssid: 'Your-WiFi 100'                                                        #
#     password: 'Passwd1234'                                                       #
####################################################################################

# Enter your Wi-Fi name (SSID) and password:
ssid: '{}'
password: '{}'
"""
HOME = Credentials("My Home", "secret 1234")


def both(found: list[Credentials]) -> list[tuple[str, str]]:
    return [(each.ssid, each.password) for each in found]


def test_the_stock_form_is_read_and_an_empty_one_names_no_network() -> None:
    assert parse(STOCK.format("My Home", "secret 1234").encode()) == [HOME]
    assert parse(STOCK.format("", "").encode()) == []
    assert parse(b"") == []


@pytest.mark.parametrize(
    "text",
    [
        "ssid: 'My Home'\npassword: 'secret 1234'\n",
        "ssid:'My Home'\r\npassword:'secret 1234'",
        "ssid: 'My Home'\rpassword: 'secret 1234'\r",
        'SSID = "My Home"\nPassword = "secret 1234"',
        "\tssid\t:\tMy Home\t \n  PASSWORD  :  secret 1234  ",
        "ssid: \u2018My Home\u2019\npassword: \u201csecret 1234\u201d",
        "ssid: \u201aMy Home\u2018\npassword: \u201esecret 1234\u201c",
        "ssid: \u00abMy Home\u00bb\npassword: `secret 1234`",
        "ssid: 'My Home\u2019\npassword: \u2018secret 1234'",
        "ssid\uff1a'My Home'\npassword\uff1a'secret 1234'",
        '"ssid": "My Home"\n"password": "secret 1234"',
        "ssid 'My Home'\npassword secret 1234",
        "ssid: 'My Home'  # ours\n\n# the password is:\npassword: 'secret 1234'  # new since May",
        "ssid: 'My Home'\u200b\n\ufeffpassword: secret 1234\u200e",
        "network name: My Home\npassphrase: secret 1234",
        "password: 'secret 1234'\nssid: 'My Home'",
        "ssid: ''\npassword: 'secret 1234'\n ssid: 'My Home'",
        "ssid: ''\npassword: 'secret 1234'\n ssid: 'My Home'\n# password: ''",
        "ssid: 'My Home'\npassword: ''\npassword: 'secret 1234'",
        "ssid: 'My Home'\npassword: 'secret 1234'\nconnection: wifi\nforceConnect: yes\nssid: ''\npassword: ''",
    ],
)
def test_what_people_write_is_understood(text: str) -> None:
    assert parse(text.encode()) == [HOME]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_every_editor_s_encoding_is_read(encoding: str) -> None:
    text = "# für den Club\r\nssid: 'Überholspur'\r\npassword: 'süß & 1234'\r\n"
    assert parse(text.encode(encoding)) == [Credentials("Überholspur", "süß & 1234")]
    assert decode(text.encode(encoding))[0] == text


@pytest.mark.parametrize(
    ("line", "ssid"),
    [
        ("ssid: a:b", "a:b"),
        ("ssid: a=b", "a=b"),
        ("ssid = a:b", "a:b"),
        ("ssid a:b", "a:b"),
        ("ssid: Rob\u2019s phone", "Rob\u2019s phone"),
        ("ssid: 'Rob's phone'", "Rob's phone"),
        ("ssid: \"the 'best' net\"", "the 'best' net"),
        ("ssid: \"'x'\"", "'x'"),
        ("ssid: ' My Home'", " My Home"),
        ("ssid: no #1", "no #1"),
        ("ssid: '# 1'", "# 1"),
        ("ssid: '\u00dcber \U0001f3ce'", "\u00dcber \U0001f3ce"),
        ("ssid: ' '", " "),
    ],
)
def test_names_keep_every_sign_of_theirs(line: str, ssid: str) -> None:
    assert parse(line.encode()) == [Credentials(ssid)]


@pytest.mark.parametrize(
    ("line", "password"),
    [
        ("password: `abc12345", "`abc12345"),
        ("password: \u00ababc", "\u00ababc"),
        ("password: 'abc12345", "'abc12345"),
        ("password: 'abc12345\"", "'abc12345\""),
        ("password: 'abc' 12345", "'abc' 12345"),
        ("password: '", "'"),
        ("password: `abc`  # ours", "abc"),
        ("password: ''abc''", "'abc'"),
    ],
)
def test_a_password_loses_only_a_pair_of_quotation_marks(line: str, password: str) -> None:
    assert both(parse(f"ssid: x\n{line}".encode())) == [("x", password)]


def test_a_name_that_is_shown_with_its_bytes_may_be_longer() -> None:
    name = "\\xe9" * 32
    assert parse(f"ssid: '{name}'".encode()) == [Credentials(name)]


def test_several_networks_come_in_the_order_of_the_file() -> None:
    text = "ssid: A\npassword: one\n\nssid: B\nssid: C\npassword: three\nhidden: yes\n"
    found = parse(text.encode())
    assert both(found) == [("A", "one"), ("B", ""), ("C", "three")]
    assert [each.hidden for each in found] == [False, False, True]
    assert both(parse(b"password: one\nssid: A\npassword: two\nssid: B")) == [("A", "one"), ("B", "two")]


@pytest.mark.parametrize(
    ("data", "line", "words"),
    [
        (rb"{\rtf1\ansi ssid: 'x'}", 0, "rich text"),
        (b"\xef\xbb\xbf{\\rtf1", 0, "rich text"),
        (b"PK\x03\x04....", 0, "word processor"),
        (b"\xd0\xcf\x11\xe0....", 0, "word processor"),
        (b"\n<!DOCTYPE html>", 0, "web page"),
        (b"%PDF-1.7", 0, "PDF"),
        (b"bplist00", 0, "web archive"),
        (b"#" * (LARGEST_FILE + 1), 0, "64 KB"),
        (b"\x81\x8d", 0, "no text"),
        (b"\xff\xfe\x00", 0, "no text"),
        (b"# hello\nssld: 'x'", 2, "did you mean ssid"),
        (b"ssid: x\npasword: canary-word", 2, "did you mean password"),
        (b"ssid: x\n\ncanary-word", 3, "before a remark"),
        (b"canary-word: canary-word", 1, "before a remark"),
        (b"ssid: 'x", 1, "no partner"),
        (b"ssid: 'Home' password: 'canary-word'", 1, "line of its own"),
        (b"ssid: Home, password: canary-word", 1, "line of its own"),
        (b"ssid: Home password canary-word", 1, "line of its own"),
        (b"ssid: Home # pwd=canary-word", 1, "line of its own"),
        (b"ssid: 'Home', 'canary-word'", 1, "line of its own"),
        (b"ssid: 'Home; pasword: canary-word'", 1, "line of its own"),
        (b'"ssid": "Home", "password": "canary-word"', 1, "line of its own"),
        ("ssid: Home\u2028\uff30assword: canary".encode(), 1, "line of its own"),
        (b"ssid: Home\x0bkey: canary-word", 1, "line of its own"),
        (b"x\nssid: canary-word", 1, "before a remark"),
        (b"\nssid: canary-word of more than 32 bytes", 2, "at most 32 bytes, and this one 33"),
        ("ssid: canary-wörds ünd möre lëtters".encode(), 1, "at most 32 bytes, and this one 33"),
        (b"ssid: ''\npassword: 'canary-word'", 2, "has no network"),
        (b"password: 'canary-word'", 1, "has no network"),
        (b"ssid: x\npassword: one\npassword: canary-word", 3, "two passwords"),
    ],
)
def test_what_cannot_be_understood_says_where_and_what_to_do(data: bytes, line: int, words: str) -> None:
    with pytest.raises(CredsError, match=words) as failure:
        parse(data)
    assert failure.value.line == line
    assert str(failure.value).startswith(f"Line {line}: " if line else "The file")
    assert "canary" not in "".join(traceback.format_exception(failure.value))


def test_no_representation_shows_the_password() -> None:
    assert "secret" not in f"{HOME!r} {HOME} {[HOME]}"


@given(st.binary(max_size=200) | st.text("ssidpaword:='\"# \n\r\t\u2018\u201cé", max_size=80).map(str.encode))
@example(b"\xff\xfe\xd8\x00")
@example(b"\0")
def test_whatever_the_bytes_nothing_but_a_credserror_comes(data: bytes) -> None:
    with contextlib.suppress(CredsError):
        assert all(each.ssid for each in parse(data))


SIGNS = st.characters(exclude_categories=["Cs", "Cc"])
TEXTS = st.text(SIGNS, min_size=1, max_size=40)
NAMES = TEXTS.filter(lambda name: len(name.encode()) <= LONGEST_NAME and not tells_a_password(name))


@given(
    st.lists(st.tuples(NAMES, TEXTS), max_size=4),
    st.sampled_from(["'", '"']),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_what_was_written_with_quotes_comes_back(
    networks: list[tuple[str, str]], quote: str, end: str, encoding: str
) -> None:
    lines = [
        f"{key}: {quote}{value}{quote}{end}"
        for pair in networks
        for key, value in zip(("ssid", "password"), pair, strict=True)
    ]
    assert both(parse("".join(lines).encode(encoding))) == networks
