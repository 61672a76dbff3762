"""The quarantine ledger and the current results."""

import itertools
from types import ModuleType

from fetalmlops.domain.contracts.events import (
    EventQuarantined,
    Header,
    QuarantineKind,
)
from fetalmlops.domain.contracts.planes import Role
from fetalmlops.domain.operations.ledger import Ledger, Place
from fetalmlops.domain.operations.results import CurrentResults

ID = "96c5a516-bafe-8a00-8879-fda4b0e5516{}"
PLACE = Place("t", 0, 0)


def entry(
    number: int, kind: QuarantineKind = QuarantineKind.TRANSIENT, replays: int = 0, **more: object
) -> EventQuarantined:
    return EventQuarantined(
        entry_id=ID.format(number),
        zone="clean",
        stage="s",
        kind=kind,
        reason="r",
        topic="t",
        replay_number=replays,
        **more,
    )


def test_entries_are_open_until_resolved_in_any_order() -> None:
    ledger = Ledger()
    ledger.add(entry(1), PLACE, 10)
    ledger.add(entry(2), PLACE, 5)
    ledger.close(ID.format(1))
    ledger.close(ID.format(3))
    ledger.add(entry(3), PLACE, 1)
    assert [item.entry.entry_id for item in ledger.open()] == [ID.format(2)]


def test_the_whole_entry_wins_over_its_twin() -> None:
    whole = entry(1, headers=[Header(name="ce_id", value=b"x")])
    for order in itertools.permutations([(entry(1), Place("twin", 0, 0)), (whole, Place("whole", 0, 7))]):
        ledger = Ledger()
        for item, place in order:
            ledger.add(item, place, 1)
        assert ledger.open()[0].place == Place("whole", 0, 7)


def test_parked_entries_come_due_with_growing_delay_and_others_never() -> None:
    ledger = Ledger()
    ledger.add(entry(1), PLACE, 0)
    ledger.add(entry(2, replays=3), PLACE, 0)
    ledger.add(entry(3, QuarantineKind.PERMANENT), PLACE, 0)
    ledger.add(entry(4, replays=60), PLACE, 0)

    def due(now_s: float) -> list[str]:
        return [item.entry.entry_id[-1] for item in ledger.due(round(now_s * 1000), 10, 100)]

    assert due(9.9) == []
    assert due(10) == ["1"]
    assert due(80) == ["1", "2"]
    assert due(100) == ["1", "2", "4"]
    ledger.replayed(ID.format(1), 100_000)
    assert due(105) == ["2", "4"]
    assert due(110) == ["1", "2", "4"]


def test_current_results_drop_repetitions_superseded_and_older_revisions(samples: ModuleType) -> None:
    first = samples.classified(revision=5)
    second = samples.classified(content_id="f" * 32, revision=9)
    third = samples.classified(content_id="f" * 32, revision=9, supersedes=ID.format(2))
    shadow = samples.classified(role=Role.SHADOW)
    events = [
        (ID.format(1), first),
        (ID.format(2), second),
        (ID.format(3), third),
        (ID.format(3), third),
        (ID.format(4), shadow),
    ]
    for order in itertools.permutations(events):
        current = CurrentResults()
        news = [current.add(identity, result) for identity, result in order]
        assert sum(news) == 4
        assert {(result.role, result.supersedes) for result in current} == {
            (Role.CHAMPION, ID.format(2)),
            (Role.SHADOW, None),
        }
        assert all(len(ids) == 1 for ids in current.contents().values())
