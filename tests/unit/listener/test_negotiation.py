"""Negotiation: what is accepted, and how it is said."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from pynetdicom.pdu import A_ABORT_RQ, A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ, A_RELEASE_RP
from pynetdicom.pdu_primitives import A_ASSOCIATE, MaximumLengthNotification, SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import build_context

from fetalmlops.domain.contracts.sop_classes import STORAGE_CLASSES
from fetalmlops.listener.channel import AbortReason, ProtocolError
from fetalmlops.listener.contexts import TRANSFER_SYNTAXES, VERIFICATION, supported_contexts
from fetalmlops.listener.negotiation import (
    APPLICATION_CONTEXT,
    MAX_REQUEST_BYTES,
    RELEASE_REPLY,
    Rejection,
    accept,
    encode_abort,
    encode_rejection,
    read_request,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

ULTRASOUND = "1.2.840.10008.5.1.4.1.1.6.1"
VIDEO = "1.2.840.10008.1.2.4.102"


def request(contexts: Sequence[tuple[str, Sequence[str]]], *, roles: Sequence[object] = (), **values: str) -> bytes:
    primitive = A_ASSOCIATE()
    primitive.application_context_name = values.get("application", APPLICATION_CONTEXT)
    primitive.calling_ae_title = values.get("calling", "FETALSIM")
    primitive.called_ae_title = "FETALMLOPS"
    proposed = [build_context(sop_class, list(syntaxes)) for sop_class, syntaxes in contexts]
    for number, context in enumerate(proposed):
        context.context_id = 2 * number + 1
    primitive.presentation_context_definition_list = proposed
    length = MaximumLengthNotification()
    length.maximum_length_received = 16384
    primitive.user_information = [length, *roles]
    return bytes(A_ASSOCIATE_RQ(primitive).encode())[6:]


def answer(body: bytes) -> A_ASSOCIATE_AC:
    data, _ = accept(read_request(body), 131072)
    pdu = A_ASSOCIATE_AC()
    pdu.decode(data)
    return pdu


def test_ae_titles_come_without_their_padding() -> None:
    proposal = read_request(request([(VERIFICATION, TRANSFER_SYNTAXES[:1])], calling=" FETALSIM"))
    assert (proposal.calling_ae_title, proposal.called_ae_title) == ("FETALSIM", "FETALMLOPS")
    assert proposal.rejection is None


def test_every_class_is_accepted_with_every_syntax() -> None:
    for sop_class in (*STORAGE_CLASSES, VERIFICATION):
        syntaxes = TRANSFER_SYNTAXES[:2] if sop_class == VERIFICATION else TRANSFER_SYNTAXES
        body = request([(sop_class, [syntax]) for syntax in syntaxes])
        _, contexts = accept(read_request(body), 0)
        assert {item.transfer_syntax_uid for item in contexts.values()} == set(syntaxes)
        assert {item.sop_class_uid for item in contexts.values()} == {sop_class}


def test_video_and_foreign_classes_are_refused_one_by_one() -> None:
    proposed = [
        (ULTRASOUND, [VIDEO]),
        ("1.2.840.10008.5.1.4.1.1.2", TRANSFER_SYNTAXES),
        (ULTRASOUND, TRANSFER_SYNTAXES),
    ]
    pdu = answer(request(proposed))
    assert [item.result for item in pdu.presentation_context] == [4, 3, 0]


def test_of_several_syntaxes_the_first_of_ours_is_chosen() -> None:
    body = request([(ULTRASOUND, tuple(reversed(TRANSFER_SYNTAXES)))])
    _, contexts = accept(read_request(body), 0)
    assert contexts[1].transfer_syntax_uid == TRANSFER_SYNTAXES[0]


def test_the_answer_states_our_longest_pdu_and_name() -> None:
    information = answer(request([(VERIFICATION, TRANSFER_SYNTAXES[:1])])).user_information
    assert information.maximum_length == 131072
    assert information.implementation_class_uid.startswith("2.25.")
    assert information.implementation_version_name.startswith("FETALMLOPS_")


def test_a_caller_that_wants_to_be_provider_stays_user() -> None:
    role = SCP_SCU_RoleSelectionNegotiation()
    role.sop_class_uid, role.scu_role, role.scp_role = ULTRASOUND, True, True
    pdu = answer(request([(ULTRASOUND, TRANSFER_SYNTAXES)], roles=[role]))
    assert pdu.presentation_context[0].result == 0
    assert not pdu.user_information.role_selection


def test_128_contexts_fit() -> None:
    body = request([(ULTRASOUND, TRANSFER_SYNTAXES)] * 128)
    assert len(body) < MAX_REQUEST_BYTES
    _, contexts = accept(read_request(body), 0)
    assert len(contexts) == 128


def test_another_application_context_is_rejected() -> None:
    body = request([(VERIFICATION, TRANSFER_SYNTAXES[:1])], application="1.2.3")
    assert read_request(body).rejection is Rejection.APPLICATION_CONTEXT


def test_another_protocol_version_is_rejected() -> None:
    body = request([(VERIFICATION, TRANSFER_SYNTAXES[:1])])
    assert read_request(b"\0\2" + body[2:]).rejection is Rejection.PROTOCOL_VERSION
    assert read_request(b"\0\3" + body[2:]).rejection is None


@pytest.mark.parametrize("seed", range(300))
def test_damaged_requests_are_read_or_refused(seed: int) -> None:
    rng = random.Random(seed)
    body = bytearray(request([(ULTRASOUND, TRANSFER_SYNTAXES), (VERIFICATION, TRANSFER_SYNTAXES[:1])]))
    for _ in range(rng.randint(1, 6)):
        body[rng.randrange(len(body))] = rng.randrange(256)
    damaged = bytes(body[: rng.choice([len(body), rng.randrange(len(body))])])
    try:
        proposal = read_request(damaged)
        accept(proposal, 0)
    except ProtocolError as error:
        assert error.reason is AbortReason.INVALID_PARAMETER  # noqa: PT017
    else:
        assert len(proposal.calling_ae_title) <= 16


def test_short_pdus_are_those_of_pynetdicom() -> None:
    rejected = A_ASSOCIATE_RJ()
    rejected.decode(encode_rejection(Rejection.TOO_MANY))
    assert (rejected.result, rejected.source, rejected.reason_diagnostic) == (2, 3, 2)
    aborted = A_ABORT_RQ()
    aborted.decode(encode_abort(AbortReason.UNEXPECTED_PDU))
    assert (aborted.source, aborted.reason_diagnostic) == (2, 2)
    assert A_RELEASE_RP().encode() == RELEASE_REPLY


def test_the_contexts_on_offer_are_unique() -> None:
    offered = [str(context.abstract_syntax) for context in supported_contexts()]
    assert sorted(offered) == sorted({VERIFICATION, *STORAGE_CLASSES})
