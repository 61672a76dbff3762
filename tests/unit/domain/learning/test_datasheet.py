"""A datasheet answers every question: by the site, by what is counted, by the publication, or says that nobody knows."""

from __future__ import annotations

import msgspec
import pytest

from fetalmlops.domain.contracts.planes import BrainPlane, Plane
from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.learning.datasheet import QUESTIONS, UNKNOWN, data_facts, make_datasheet, parse_answers
from fetalmlops.domain.learning.layouts import fetal_planes, hc18
from fetalmlops.domain.learning.manifest import DataManifest, Split
from fetalmlops.platform.learning.publications import published_answers
from support.datasets import entry

IMAGES = [
    entry(1, plane=Plane.BRAIN, brain_plane=BrainPlane.OTHER, scanner="S"),
    entry(2, plane=Plane.BRAIN, patient="1", scanner="S", pixels=entry(1).pixels),
    entry(3, plane=Plane.FEMUR, split=Split.TEST, rows=10),
    entry(4, split=Split.TEST),
]
MANIFEST = DataManifest(name="a", layout="folders", licence="private", images=IMAGES, excluded={"absent": 7})


def _answers(published: dict[str, str] | None = None, site: dict[str, str] | None = None) -> dict[str, tuple[str, str]]:
    sections = make_datasheet(MANIFEST, "d" * 64, published or {}, site or {})
    assert list(sections) == list(QUESTIONS)
    return {answer.key: (answer.text, answer.origin) for found in sections.values() for answer in found}


def test_the_order_is_that_of_gebru_and_others() -> None:
    expected = ["Motivation", "Composition", "Collection", "Preprocessing", "Uses", "Distribution", "Maintenance"]
    assert list(QUESTIONS) == expected


def test_figures_are_counted() -> None:
    facts = data_facts(MANIFEST)
    assert (facts["images"], facts["patients"], facts["exact_duplicates"]) == (4, 3, 1)
    assert facts["planes"] == {
        "brain": {"train": {"images": 2, "patients": 1}},
        "femur": {"test": {"images": 1, "patients": 1}},
        "no label": {"test": {"images": 1, "patients": 1}},
    }
    assert facts["scanners"]["not known"] == {"test": {"images": 2, "patients": 2}}
    assert facts["sizes"] == [{"columns": 80, "rows": 60, "images": 3}, {"columns": 80, "rows": 10, "images": 1}]
    assert facts["images_per_patient"]["counts"] == {"1": 2, "2": 1}
    msgspec.json.encode(facts)


def test_what_is_counted_is_answered_and_the_rest_is_said_to_be_unknown() -> None:
    answers = _answers()
    assert answers["number"] == ("4 images of 3 patients.", "computed")
    missing = answers["missing"][0]
    assert "the label of 1 images" in missing
    assert "scanner of 2 images" in missing
    assert "7 images left out: absent" in missing
    assert "as an earlier one: 1." in answers["errors"][0]
    assert answers["funding"] == answers["ethics"] == (UNKNOWN, "nobody")
    assert answers["licence"] == ("private", "computed")


def test_the_sites_word_counts_most_and_a_publication_adds_to_what_is_counted() -> None:
    answers = _answers(
        {"purpose": "published", "errors": "Some are wrong."}, {"purpose": "ours", "licence": "ours too"}
    )
    assert answers["purpose"] == ("ours", "site")
    assert answers["licence"] == ("ours too", "site")
    assert answers["errors"][0].endswith("Some are wrong.")
    assert _answers({"purpose": "published"})["purpose"] == ("published", "published")


def test_a_sites_answers_are_read_or_refused() -> None:
    assert parse_answers(b'ethics = "Board 7, consent in writing."') == {"ethics": "Board 7, consent in writing."}
    for data in (b'colour = "red"', b"ethics = 3", b"ethics", b"\xff"):
        with pytest.raises(ContractError, match="Expected answers"):
            parse_answers(data)


def test_published_answers_are_to_questions_of_known_layouts() -> None:
    keys = {key for questions in QUESTIONS.values() for key in questions}
    published = published_answers()
    assert set(published) == {fetal_planes.NAME, hc18.NAME}
    for answers in published.values():
        assert set(answers) <= keys
