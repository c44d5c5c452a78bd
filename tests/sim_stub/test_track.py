"""Tracks: the ones that come along, community routes, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from sim_stub import track
from sim_stub.track import Track, TrackError

LENGTHS = {
    "reinvent_base": 17.71,
    "reInvent2019_wide": 16.64,
    "reInvent2019_track": 23.12,
    "2022_summit_speedway": 25.17,
    "2024_reinvent_champ_ccw": 25.11,
    "Vegas_track": 22.55,
    "Bowtie_track": 17.43,
    "Oval_track": 19.55,
    "Virtual_May19_Train_track": 19.45,
    "2022_reinvent_champ_ccw": 33.28,
}


TEMPLATES = {"straight": 3.05, "single_turn": 2.76, "s_curve": 4.77, "loop": 8.97}


def test_all_public_tracks_are_there() -> None:
    assert track.names() == sorted(LENGTHS | TEMPLATES)


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_has_the_manuals_width_and_keeps_its_own_rules(name: str) -> None:
    road = track.load(name)
    assert road.closed is (name == "loop")
    assert road.length == pytest.approx(TEMPLATES[name], abs=0.02)
    assert np.hypot(*(road.inner - road.outer).T) == pytest.approx(24 * 0.0254)
    assert track.broken_rules(road) == []
    assert road.on_road(road.centre[1:-1]).all()


def test_the_templates_turn_as_the_manual_draws_them() -> None:
    assert track.turns(track.load("straight")) == []
    for name, angles in (("single_turn", [60]), ("s_curve", [60, 60]), ("loop", [90, 90, 90, 90])):
        found = track.turns(track.load(name))
        assert [angle for _, angle, _ in found] == pytest.approx(angles, rel=0.1)
        assert [radius for *_, radius in found] == pytest.approx([30 * 0.0254] * len(angles), rel=0.03)


def drawing(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text)
    return str(path)


HAIRPIN = "width_m = 0.6\npieces = [{straight_m = 2}, {turn_deg = 180, radius_m = 0.4}, {straight_m = 2}]"


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        (HAIRPIN, [r"turn of 18\d degrees 2\.\d m from the start .* 27\.\d inches; it must be at least 30"]),
        (HAIRPIN.replace("180", "90"), []),
        (HAIRPIN.replace("0.4}", "0.6}"), []),
        (HAIRPIN.replace("0.4}", "0.7}").replace("0.6\n", "0.5\n"), [r"19\.7 inches wide at its narrowest"]),
    ],
    ids=["hairpin too tight", "a right angle may be tighter", "wide enough", "narrow"],
)
def test_a_drawing_is_checked_against_the_manuals_rules(tmp_path: Path, text: str, broken: list[str]) -> None:
    found = track.broken_rules(track.load(drawing(tmp_path, text)))
    assert len(found) == len(broken)
    for sentence, expected in zip(found, broken, strict=True):
        assert re.search(expected, sentence), sentence


def test_the_checker_speaks_for_the_shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert track.main(["loop", "Oval_track"]) == 0
    assert "keeps the manual's rules" in capsys.readouterr().out
    assert track.main([drawing(tmp_path, HAIRPIN)]) == 1
    assert "27" in capsys.readouterr().out
    assert track.main(["monza"]) == 2
    assert "no track 'monza'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("width_m = 0.6", "centre_m"),
        ("width_m = 60\ncentre_m = [[0, 0], [5, 0], [0, 5]]", r"width_m must lie in 0\.1\.\.10, not 60"),
        ("width_m = 0.6\ncentre_m = [[0, 0], [5, 0]]", "at least 3 points"),
        ("width_m = 0.6\npieces = [{turn_deg = 90}]", "a piece must have straight_m, or turn_deg and radius_m"),
        ("width_m = 0.6\npieces = [{straight_m = -1}]", r"a piece must be 0\.01\.\.1000 m long"),
        ("width_m = ", "cannot be read"),
        ("width_m = 0.6\ncentre_m = [[0, 0], [6, 4], [6, 0], [0, 4]]", r"crosses itself near \(\d\.\d\d, "),
    ],
)
def test_a_drawing_that_is_no_track_is_refused_in_one_sentence(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(TrackError, match=why) as refusal:
        track.load(drawing(tmp_path, text))
    assert "\n" not in str(refusal.value)


def test_a_route_that_crosses_itself_is_refused(tmp_path: Path) -> None:
    angle = np.linspace(0, 2 * np.pi, 80)
    eight = np.stack([2 * np.sin(angle), np.sin(2 * angle)], axis=1)
    eight[-1] = eight[0]
    with pytest.raises(TrackError, match=r"crosses itself near \(-?0\.0"):
        track.load(route(tmp_path, np.hstack([eight, eight * 0.9, eight * 1.1])))


def test_a_track_can_be_driven_the_other_way() -> None:
    road = track.load("Oval_track")
    back = road.reversed()
    assert back.ccw is not road.ccw
    assert back.length == pytest.approx(road.length)
    there, here = road.place(np.array([3.0])), back.place(np.array([back.length - 3.0]))
    assert there[0] == pytest.approx(here[0])
    assert abs(abs(there[1][0] - here[1][0]) - np.pi) < 1e-6


@pytest.mark.parametrize("name", LENGTHS)
def test_a_track_has_its_length_its_width_and_a_road_around_its_centre(name: str) -> None:
    road = track.load(name)
    assert road.closed
    assert road.length == pytest.approx(LENGTHS[name], rel=0.01)
    widths = np.hypot(*(road.inner - road.outer).T)
    assert np.ptp(widths) < 1e-9
    assert road.on_road(road.centre).all()
    assert not road.on_road(road.centre + 1.05 * (road.outer - road.centre)).any()
    assert road.road.area == pytest.approx(road.length * widths[0], rel=0.03)


def test_a_track_is_found_by_its_title_and_whatever_the_case() -> None:
    assert track.load("RE:invent 2018").name == track.load("REINVENT_base").name == "reinvent_base"


def test_an_unknown_track_names_the_known_ones() -> None:
    with pytest.raises(TrackError, match=r"no track 'monza'.*Oval_track"):
        track.load("monza")


def test_places_along_the_track_are_found_again() -> None:
    road = track.load("Bowtie_track")
    along = np.linspace(0.3, road.length - 0.3, 50)
    points, headings = road.place(along)
    assert np.allclose(road.distance_along(points), along, atol=1e-6)
    ahead, _ = road.place(along + 0.05)
    assert np.allclose(np.arctan2(*(ahead - points).T[::-1]), headings, atol=0.2)
    wrapped, _ = road.place(along + road.length)
    assert np.allclose(wrapped, points, atol=1e-6)
    aside = points + 0.1 * np.stack([-np.sin(headings), np.cos(headings)], axis=1)
    assert np.allclose(road.distance_from_centre(aside), 0.1, atol=0.01)


def route(path: Path, rows: np.ndarray) -> str:
    np.save(path / "route.npy", rows)
    return str(path / "route.npy")


def straight(length: float = 6.0) -> np.ndarray:
    x = np.linspace(0, length, 20)
    return np.stack([x, 0 * x, x, 0 * x + 0.4, x, 0 * x - 0.4], axis=1)


def test_an_open_route_is_a_road_between_its_borders(tmp_path: Path) -> None:
    road = track.load(route(tmp_path, straight()))
    assert isinstance(road, Track)
    assert not road.closed
    assert road.length == pytest.approx(6.0)
    assert road.on_road(np.array([[3.0, 0.39], [3.0, 0.41], [-0.1, 0.0]])).tolist() == [True, False, False]


def test_points_that_repeat_are_dropped(tmp_path: Path) -> None:
    rows = straight()
    assert len(track.load(route(tmp_path, np.repeat(rows, 2, axis=0))).centre) == len(rows)


@pytest.mark.parametrize(
    "rows",
    [np.zeros((10, 5)), np.zeros((10, 6)), np.zeros(6), np.full((10, 6), np.nan), straight(1e6), straight()[:2]],
    ids=["columns", "one point", "flat", "NaN", "endless", "two rows"],
)
def test_what_is_no_route_is_refused_in_one_sentence(tmp_path: Path, rows: np.ndarray) -> None:
    with pytest.raises(TrackError, match="is no route"):
        track.load(route(tmp_path, rows))


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"not numpy at all"])
def test_a_file_that_is_no_array_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "route.npy").write_bytes(content)
    with pytest.raises(TrackError, match="cannot be read"):
        track.load(str(tmp_path / "route.npy"))


def test_an_array_of_objects_is_never_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "route.npy", np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(TrackError, match="cannot be read"):
        track.load(str(tmp_path / "route.npy"))


def test_a_missing_file_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(TrackError, match="cannot be read"):
        track.load(str(tmp_path / "nowhere.npy"))
