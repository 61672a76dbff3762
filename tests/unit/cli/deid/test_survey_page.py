"""The page stands alone, escapes what devices say, and says with pictures what the pictures are."""

from __future__ import annotations

import os
import re
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from fetalmlops.cli.deid.survey_child import Looks
from fetalmlops.cli.deid.survey_page import survey_page, survey_table
from fetalmlops.domain.deid import STREAM
from fetalmlops.domain.deid.pixels.preview import masked_preview
from fetalmlops.domain.deid.survey.facts import Facts, Scanner
from fetalmlops.domain.deid.survey.looks import Preview, ProposedProfile
from fetalmlops.domain.deid.survey.report import survey_report
from fetalmlops.domain.deid.survey.tally import Survey

EVIL = '</code><script>alert("1")</script>[red]'
PREVIEW = Preview(
    jpeg=masked_preview(np.zeros((60, 80), np.uint8), [(8, 10, 72, 50)]),
    rectangles=[(8, 10, 72, 50)],
    hidden=0.4667,
    texts=1,
)
_VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Takes a page apart, and minds that what is opened is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data

    def all(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag in names]


def page_of(patients: int = 4, **changes: Any) -> str:
    survey = Survey(total=3)
    scanner = Scanner(manufacturer="M", model=EVIL, software="1", rows=60, columns=80, photometric="RGB")
    survey.add(Facts(scanner=scanner, frames=1), "clean", "regions", "place")
    survey.add(Facts(scanner=scanner, frames=1), "pixels-unproven", "", "place")
    survey.add(Facts(scanner=Scanner()), "unsupported-sop-class", "", "place")
    report = survey_report(survey, STREAM, text=True, interrupted=changes.get("interrupted", False))
    for entry in report["scanners"]:
        entry |= {"kept": None, "proposal": None, "no_proposal": ""}
    proposed = ProposedProfile(
        toml=f'model = "{EVIL}"', images=12, changing_outside=0.02, preview=PREVIEW, change=PREVIEW
    )
    report["scanners"][0]["proposal"] = {"patients": patients}
    report["scanners"][1]["no_proposal"] = "Expected more"
    return survey_page(report, {1: Looks(preview=PREVIEW, proposal=proposed)})


def test_nothing_is_asked_for_from_elsewhere() -> None:
    page = Page(page_of())
    for attributes in (attributes for _, attributes in page.tags):
        for name in ("src", "href", "action", "data", "srcset"):
            assert re.match(r"data:image/jpeg;base64,|#scanner-\d", attributes.get(name) or "#scanner-1")
    assert not page.all("script", "link", "iframe", "object", "form")
    assert not re.search(r"url\(|@import|https?:", page_of())


def test_what_devices_say_is_text_and_nothing_else() -> None:
    text = page_of()
    assert "<script" not in text
    assert EVIL in Page(text).words


def test_headings_captions_and_pictures_can_be_heard() -> None:
    page = Page(page_of())
    assert page.all("html")[0]["lang"] == "en"
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert len(page.all("caption")) == len(page.all("table")) == 4
    assert all(head.get("scope") for head in page.all("th"))
    pictures = page.all("img")
    assert len(pictures) == 3
    assert all(len(picture["alt"] or "") > 40 for picture in pictures)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert {attributes["aria-labelledby"] for attributes in page.all("section", "article")} <= set(ids)


def test_a_proposal_asks_for_a_person_and_says_on_what_it_rests() -> None:
    words = " ".join(Page(page_of()).words.split())
    assert "A person must look for names inside the outline before this profile is used." in words
    assert "It rests on 12 images of 4 patients" in words
    assert "These are few patients" not in words
    assert "It rests on 12 images of 1 patient:" in " ".join(Page(page_of(patients=1)).words.split())
    assert "These are few patients" in page_of(patients=2)
    assert "columns 8 to 71, rows 10 to 49" in words
    assert "Expected more." in words


def test_a_survey_that_was_stopped_says_so() -> None:
    assert "Stopped before the end" in page_of(interrupted=True)
    assert "Stopped before the end" not in page_of()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_can_be_read_on_their_ground(scheme: str) -> None:
    """Contrast of at least 4.5 (WCAG 2.1, 1.4.3), by the colours that the page sets."""
    light, dark = re.findall(r":root \{([^}]*--paper[^}]*)\}", page_of())[:2]
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", light if scheme == "light" else dark))
    for ground, inks in {
        "paper": ("ink", "soft", "good", "bad", "link"),
        "panel": ("ink", "soft", "good", "bad"),
        "note-back": ("ink",),
    }.items():
        for ink in inks:
            high, low = sorted((luminance(colours[ink]), luminance(colours[ground])), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, ground)


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_table_of_the_terminal_takes_no_markup_of_devices() -> None:
    survey = Survey(total=1)
    survey.add(Facts(scanner=Scanner(model=EVIL)), "identity", "", "place")
    report = survey_report(survey, STREAM, text=False, interrupted=True)
    report["scanners"][0] |= {"proposal": None, "no_proposal": ""}
    console = Console(record=True, width=160, file=open(os.devnull, "w"))  # noqa: PTH123, SIM115
    survey_table(report, console)
    told = console.export_text()
    assert "[red]" in told
    assert "1 identity" in told
    assert "Stopped before the end" in told
