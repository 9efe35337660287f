"""What takes long is not silent."""

import time

from tandem.core import patience


def test_whatever_takes_long_has_a_line_now_and_then(monkeypatch):
    monkeypatch.setattr(patience, "SILENCE", 0.2)
    said, spoken = [], 0.0
    with patience.company(said.append, lambda: "still at it", lambda: spoken):
        time.sleep(0.5)
        assert 1 <= len(said) <= 3 and said[0].startswith("... still at it (0 s)")
        for _ in range(6):  # others speak, so it does not
            spoken = time.monotonic()
            time.sleep(0.05)
        assert len(said) <= 3
    before = len(said)
    time.sleep(0.25)
    assert len(said) == before
