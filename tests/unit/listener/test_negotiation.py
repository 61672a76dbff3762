"""Who may associate with the storage provider, and for what, over real connections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pynetdicom.pdu import A_ASSOCIATE_AC
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation

from fetalmlops.domain.contracts.sop_classes import STORAGE_CLASSES
from fetalmlops.domain.contracts.sources import Source
from fetalmlops.listener.contexts import TRANSFER_SYNTAXES, VERIFICATION, VERIFICATION_SYNTAXES, supported_contexts
from fetalmlops.platform.dicom.sources import add_source
from support.wire import (
    ACCEPTED,
    REJECTED,
    ULTRASOUND,
    pdu,
    request,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pydicom.dataset import Dataset

    Make = Callable[..., Dataset]
    Encode = Callable[..., bytes]

VIDEO = "1.2.840.10008.1.2.4.102"
FOREIGN_CLASS = "1.2.840.10008.5.1.4.1.1.2"


def accepted(listener: Any, contexts: Sequence[tuple[str, Sequence[str]]], **more: Any) -> A_ASSOCIATE_AC:
    sender = listener.connect()
    sender.send(request(contexts=contexts, **more))
    kind, body = sender.receive()
    answer = A_ASSOCIATE_AC()
    answer.decode(pdu(kind, body))
    sender.release()
    return answer


def results(answer: A_ASSOCIATE_AC) -> list[int]:
    """Return the results of the contexts, in the order in which they were proposed."""
    return [item.result for item in sorted(answer.presentation_context, key=lambda item: item.context_id)]


@pytest.mark.parametrize(
    ("address", "titles", "expected"),
    [
        ("127.0.0.1", {"calling": "STRANGER"}, (1, 1, 3)),
        ("127.0.0.2", {}, (1, 1, 3)),
        ("127.0.0.1", {"called": "OTHER"}, (1, 1, 7)),
        ("127.0.0.1", {"application": "1.2.3"}, (1, 1, 2)),
    ],
    ids=["unknown title", "unknown address", "other called title", "other application"],
)
def test_who_is_not_served_is_rejected(
    listener: Any, address: str, titles: dict[str, Any], expected: tuple[int, ...]
) -> None:
    sender = listener.connect(address)
    sender.send(request(**titles))
    kind, body = sender.receive()
    assert (kind, tuple(body[1:])) == (REJECTED, expected)
    assert sender.is_closed()


def test_another_protocol_version_is_rejected(listener: Any) -> None:
    sender = listener.connect()
    asked = request()
    sender.send(asked[:6] + b"\0\2" + asked[8:])
    kind, body = sender.receive()
    assert (kind, tuple(body[1:])) == (REJECTED, (1, 2, 2))


def test_one_association_too_many_is_rejected_for_now(listen: Callable[..., Any]) -> None:
    listener = listen(max_associations=1)
    first, second = listener.associate(), listener.connect()
    second.send(request())
    kind, body = second.receive()
    assert (kind, tuple(body[1:])) == (REJECTED, (2, 3, 2))
    first.release()
    listener.wait_until_quiet()
    listener.associate()


def test_a_called_title_may_be_left_unchecked(listen: Callable[..., Any]) -> None:
    sender = listen(check_called_ae_title=False).connect()
    sender.send(request(called="ANYTHING"))
    assert sender.receive()[0] == ACCEPTED


def test_titles_count_without_their_padding(listener: Any) -> None:
    sender = listener.connect()
    sender.send(request(calling=" FETALSIM"))
    assert sender.receive()[0] == ACCEPTED


def test_a_source_that_is_added_is_served_at_once(listener: Any) -> None:
    add_source(listener.parts.home / "sources.toml", Source(id="room-1", ae_title="SCANNER", site="north"))
    sender = listener.connect()
    sender.send(request(calling="SCANNER"))
    assert sender.receive()[0] == ACCEPTED


@pytest.mark.parametrize("sop_class", [*STORAGE_CLASSES, VERIFICATION])
def test_every_class_is_accepted_with_every_syntax(listener: Any, sop_class: str) -> None:
    syntaxes = VERIFICATION_SYNTAXES if sop_class == VERIFICATION else TRANSFER_SYNTAXES
    answer = accepted(listener, [(sop_class, [syntax]) for syntax in syntaxes])
    assert results(answer) == [0] * len(syntaxes)
    assert [item.transfer_syntax for item in answer.presentation_context] == list(syntaxes)


def test_video_and_foreign_classes_are_refused_one_by_one(listener: Any) -> None:
    answer = accepted(
        listener, [(ULTRASOUND, [VIDEO]), (FOREIGN_CLASS, TRANSFER_SYNTAXES), (ULTRASOUND, TRANSFER_SYNTAXES)]
    )
    assert results(answer) == [4, 3, 0]


def test_of_several_syntaxes_the_first_of_ours_is_chosen(listener: Any) -> None:
    answer = accepted(listener, [(ULTRASOUND, tuple(reversed(TRANSFER_SYNTAXES)))])
    assert answer.presentation_context[0].transfer_syntax == TRANSFER_SYNTAXES[0]


def test_128_contexts_fit(listener: Any) -> None:
    answer = accepted(listener, [(ULTRASOUND, TRANSFER_SYNTAXES)] * 128)
    assert results(answer) == [0] * 128


def test_the_answer_states_our_longest_pdu_and_name(listener: Any) -> None:
    information = accepted(listener, [(VERIFICATION, TRANSFER_SYNTAXES[:1])]).user_information
    assert information.maximum_length == 131072
    assert information.implementation_class_uid.startswith("2.25.")
    assert information.implementation_version_name.startswith("FETALMLOPS_")


def test_a_caller_that_wants_to_be_provider_stays_user(listener: Any) -> None:
    role = SCP_SCU_RoleSelectionNegotiation()
    role.sop_class_uid, role.scu_role, role.scp_role = ULTRASOUND, True, True
    answer = accepted(listener, [(ULTRASOUND, TRANSFER_SYNTAXES)], items=[role])
    assert answer.presentation_context[0].result == 0
    assert not answer.user_information.role_selection


def test_the_contexts_on_offer_are_unique() -> None:
    offered = [str(context.abstract_syntax) for context in supported_contexts()]
    assert sorted(offered) == sorted({VERIFICATION, *STORAGE_CLASSES})
