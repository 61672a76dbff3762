"""The sum of a survey: facts by scanner, within bounds whatever the number of files."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from fetalmlops.domain.deid.faults import Refusal

if TYPE_CHECKING:
    from fetalmlops.domain.deid.survey.facts import Facts, Scanner

__all__ = ["CLEAN", "MOST_SCANNERS", "SAMPLE", "Sample", "ScannerTally", "Survey"]

CLEAN = "clean"
"""The outcome of a file that would not be refused."""

MOST_SCANNERS = 300
"""Most scanners that are told apart: the files of further ones are counted together."""

SAMPLE = 12
"""Most files of a scanner that are kept in mind, to look at their pixels later."""


class Sample(NamedTuple):
    """A file that stands for others of its scanner: where it is, and the code of its patient."""

    place: str
    patient: bytes


@dataclass
class ScannerTally:
    """Counts of one scanner's files, and a sample of those whose pixels were proven and of those whose were not."""

    files: int = 0
    frames: int = 0
    transfer_syntaxes: Counter[str] = field(default_factory=Counter)
    sop_classes: Counter[str] = field(default_factory=Counter)
    regions: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    proofs: Counter[str] = field(default_factory=Counter)
    proven: list[Sample] = field(default_factory=list)
    unproven: list[Sample] = field(default_factory=list)

    @property
    def refused(self) -> int:
        """Files that would go to quarantine."""
        return self.files - self.outcomes[CLEAN]

    def add(self, facts: Facts, outcome: str, proof: str, place: str) -> None:
        """Count a file; see `Survey.add`."""
        self.files += 1
        self.frames += facts.frames
        self.transfer_syntaxes[facts.transfer_syntax] += 1
        self.sop_classes[facts.sop_class] += 1
        self.regions[facts.regions.value] += 1
        self.outcomes[outcome] += 1
        if proof:
            self.proofs[proof] += 1
        if not facts.frames:
            return
        if outcome == Refusal.PIXELS_UNPROVEN:
            _remember(self.unproven, Sample(place, facts.patient))
        elif outcome in (CLEAN, Refusal.TEXT_FOUND):
            _remember(self.proven, Sample(place, facts.patient))


@dataclass
class Survey:
    """How far a survey has come.

    Parameters
    ----------
    total
        Files that were found.
    scanners
        Counts by scanner, in the order in which they were first seen.
    others
        Counts of the files of scanners beyond the first `MOST_SCANNERS`.
    not_dicom
        Files that are not in Part 10 format.
    unopened
        Files that could not be opened.
    headless
        Outcomes of DICOM files whose header could not be read, so that their scanner is not known.
    """

    total: int = 0
    scanners: dict[Scanner, ScannerTally] = field(default_factory=dict)
    others: ScannerTally = field(default_factory=ScannerTally)
    not_dicom: int = 0
    unopened: int = 0
    headless: Counter[str] = field(default_factory=Counter)

    def add(self, facts: Facts, outcome: str, proof: str, place: str) -> None:
        """Count a DICOM file.

        Parameters
        ----------
        facts
            What it is.
        outcome
            `CLEAN`, or the reason for which it would be refused.
        proof
            What proves its pixels, as `Deidentification.pixel_action` says it; empty where it is refused.
        place
            Where it is, for the sample.
        """
        known = facts.scanner in self.scanners or len(self.scanners) < MOST_SCANNERS
        tally = self.scanners.setdefault(facts.scanner, ScannerTally()) if known else self.others
        tally.add(facts, outcome, proof, place)

    @property
    def seen(self) -> int:
        """Files that were looked at."""
        return self.dicom + self.not_dicom + self.unopened

    @property
    def dicom(self) -> int:
        """DICOM files among them."""
        return sum(tally.files for tally in self.tallies) + self.headless.total()

    @property
    def outcomes(self) -> Counter[str]:
        """Outcomes of all DICOM files."""
        return sum((tally.outcomes for tally in self.tallies), Counter(self.headless))

    @property
    def tallies(self) -> list[ScannerTally]:
        """All counts by scanner, the others last."""
        return [*self.scanners.values(), self.others]


def _remember(sample: list[Sample], new: Sample) -> None:
    """Keep the first files, but as many patients as there are: the second file of one makes room for another's first."""
    if len(sample) < SAMPLE:
        sample.append(new)
        return
    patients = Counter(kept.patient for kept in sample)
    most, count = patients.most_common(1)[0]
    if count > 1 and new.patient not in patients:
        last = max(index for index, kept in enumerate(sample) if kept.patient == most)
        sample[last] = new
