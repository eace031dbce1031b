from __future__ import annotations

from workers.runtime.store.measurements import Measurements

DIGEST = "a" * 64


def test_a_figure_is_found_under_its_conditions(tmp_path):
    measurements = Measurements(tmp_path / "measured")
    assert measurements.find(DIGEST, "16 slots") is None
    measurements.keep(DIGEST, "16 slots", 1)
    measurements.keep(DIGEST, "4 slots", 2)
    measurements.keep(DIGEST, "16 slots", 3)
    again = Measurements(tmp_path / "measured")
    assert (again.find(DIGEST, "16 slots"), again.find(DIGEST, "4 slots")) == (3, 2)
    assert again.find("b" * 64, "4 slots") is None
    assert len(list((tmp_path / "measured").iterdir())) == 1


def test_what_cannot_be_read_or_written_is_done_without(tmp_path):
    measurements = Measurements(tmp_path)
    file = tmp_path / f"sha256-{DIGEST}.json"
    for content in ("{", "[1]", '{"x": "y"}'):
        file.write_text(content)
        assert measurements.find(DIGEST, "x") is None
    blocked = tmp_path / "file"
    blocked.write_text("")
    Measurements(blocked).keep(DIGEST, "x", 1)
    assert Measurements(blocked).find(DIGEST, "x") is None
