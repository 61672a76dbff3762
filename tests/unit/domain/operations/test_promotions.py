"""Which bundle has a role, and which had it before, whatever was promoted, undone and ended."""

from __future__ import annotations

import hashlib

import pytest

from fetalmlops.domain.contracts.events import ModelPromoted, ObjectRef
from fetalmlops.domain.contracts.planes import ReleaseStatus, Role
from fetalmlops.domain.operations.promotions import History, Promoted


def event(name: str, role: Role = Role.CHAMPION, **more: bool) -> ModelPromoted:
    digest = hashlib.sha256(name.encode()).hexdigest()
    ref = ObjectRef(uri=f"clean/bundles/{digest}/manifest.json", sha256=digest, size=1, media_type="application/json")
    return ModelPromoted(
        model=name,
        version="1.0.0",
        role=role,
        bundle_digest=digest,
        manifest=ref,
        release_status=ReleaseStatus.DEMONSTRATION,
        actor="tester",
        reason="test",
        **more,
    )


def history(*steps: str) -> History:
    """A step is a name; ``<name`` rolls back to it, ``!name`` ends it, ``~name`` promotes it as a shadow."""
    made = []
    for moment, step in enumerate(steps):
        name = step.lstrip("<!~")
        role = Role.SHADOW if "~" in step or "!" in step else Role.CHAMPION
        made.append(Promoted(moment, step, event(name, role, rollback="<" in step, retired="!" in step)))
    return History(reversed(made))


def named(promoted: Promoted | None) -> str | None:
    return promoted.event.model if promoted else None


@pytest.mark.parametrize(
    ("steps", "current", "before"),
    [
        ((), None, None),
        (("a",), "a", None),
        (("a", "b"), "b", "a"),
        (("a", "b", "c", "<b"), "b", "a"),
        (("a", "b", "c", "<b", "<a"), "a", None),
        (("a", "b", "<a", "c"), "c", "a"),
        (("a", "b", "b"), "b", "a"),
        (("a", "b", "a", "<b"), "b", "a"),
        (("a", "b", "<lost"), "lost", "b"),
        (("a", "~s", "b"), "b", "a"),
    ],
)
def test_each_rollback_goes_one_further_back(steps: tuple[str, ...], current: str | None, before: str | None) -> None:
    found = history(*steps)
    assert (named(found.current(Role.CHAMPION)), named(found.before(Role.CHAMPION))) == (current, before)


def test_a_role_that_was_ended_is_nobodys_until_the_next_promotion() -> None:
    assert named(history("~s", "~t").current(Role.SHADOW)) == "t"
    ended = history("a", "~s", "~t", "!t")
    assert ended.current(Role.SHADOW) is None
    assert ended.before(Role.SHADOW) is None
    assert named(ended.current(Role.CHAMPION)) == "a"
    again = history("~s", "!s", "~t", "~u")
    assert (named(again.current(Role.SHADOW)), named(again.before(Role.SHADOW))) == ("u", "t")
