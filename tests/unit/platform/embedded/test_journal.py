from __future__ import annotations

from pathlib import Path

from fetalmlops.platform.embedded.follow import _Tail
from fetalmlops.platform.embedded.journal import last_lines, parse_journal, read_journal

LAUNCHED = "2026-01-01 10:00:00,000 INFO supervisord started with pid 7"


def spawned(name: str) -> str:
    return f"2026-01-01 10:00:00,000 INFO spawned: '{name}' with pid 8"


def test_restarts_count_from_the_last_launch() -> None:
    journal = parse_journal([LAUNCHED, *[spawned("keeper")] * 5, LAUNCHED, spawned("keeper"), spawned("keeper")])

    assert journal.restarts("keeper") == 1
    assert journal.restarts("listener") == 0


def test_the_last_ending_holds() -> None:
    journal = parse_journal(
        [
            LAUNCHED,
            "2026-01-01 10:00:00,000 WARN exited: broker (terminated by SIGKILL; not expected)",
            "2026-01-01 10:00:00,000 WARN exited: keeper (exit status 1; not expected)",
            "2026-01-01 10:00:00,000 INFO stopped: keeper (exit status 0)",
        ]
    )

    assert journal.endings == {"broker": "terminated by SIGKILL", "keeper": "exit status 0"}


def test_rotated_logs_are_read_in_order(tmp_path: Path) -> None:
    (tmp_path / "log.1").write_text("\n".join([LAUNCHED, spawned("keeper")]))
    (tmp_path / "log").write_text(spawned("keeper"))

    assert read_journal(tmp_path / "log").restarts("keeper") == 1


def test_no_log_is_no_history(tmp_path: Path) -> None:
    assert read_journal(tmp_path / "none").starts == {}
    assert last_lines(tmp_path / "none", 5) == []


def test_the_last_lines_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * 50_000 + b"\nfirst\n\nsecond \xff\n")

    assert last_lines(path, 2) == ["first", "second \N{REPLACEMENT CHARACTER}"]
    assert last_lines(path, 0) == []


def test_a_log_is_followed_over_its_rotation(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("before\n")
    tail = _Tail(path)
    with path.open("a") as file:
        file.write("one\ntw")
    assert tail.read() == ["one"]
    with path.open("a") as file:
        file.write("o\n")
    path.rename(tmp_path / "log.1")
    path.write_text("three\n")
    assert tail.read() == ["two", "three"]
    path.write_text("4\n")
    assert tail.read() == ["4"]
    tail.close()


def test_a_log_that_comes_later_is_followed(tmp_path: Path) -> None:
    tail = _Tail(tmp_path / "log")
    assert tail.read() == []
    (tmp_path / "log").write_text("first\n")
    assert tail.read() == ["first"]
    tail.close()
