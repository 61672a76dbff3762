"""What a survey says: plain data, the same for the page and for the file beside it. It holds no value of any patient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fetalmlops.domain.deid.rules.table import standard_table
from fetalmlops.domain.deid.survey.facts import WITHHELD, Scanner
from fetalmlops.domain.deid.survey.reasons import explain_reason
from fetalmlops.domain.deid.survey.tally import CLEAN, MOST_SCANNERS

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Mapping

    from fetalmlops.domain.deid.rules.profile import Profile
    from fetalmlops.domain.deid.survey.tally import ScannerTally, Survey

__all__ = ["ordered", "survey_report"]

_UNNAMED = "not in the standard"


def ordered(survey: Survey) -> list[tuple[Scanner | None, ScannerTally]]:
    """Return the scanners with most files first, those beyond the bound (None) last."""
    scanners = sorted(survey.scanners.items(), key=lambda pair: (-pair[1].files, *_name(pair[0])))
    return [*scanners, *([(None, survey.others)] if survey.others.files else [])]


def survey_report(survey: Survey, profile: Profile, *, text: bool, interrupted: bool) -> dict[str, Any]:
    """Return what a survey says.

    Parameters
    ----------
    survey
        The sums.
    profile
        By which rules.
    text
        Whether text was looked for.
    interrupted
        Whether it was stopped before the last file.
    """
    outcomes = survey.outcomes
    return {
        "rules": {
            "profile": profile.name,
            "version": profile.version,
            "digest": profile.digest,
            "edition": profile.edition,
            "table_digest": standard_table().digest,
            "text_looked_for": text,
        },
        "files": {
            "found": survey.total,
            "looked_at": survey.seen,
            "dicom": survey.dicom,
            "not_dicom": survey.not_dicom,
            "unopened": survey.unopened,
            "clean": outcomes[CLEAN],
            "refused": survey.dicom - outcomes[CLEAN],
            "refused_share": _share(survey.dicom - outcomes[CLEAN], survey.dicom),
            "interrupted": interrupted,
        },
        "reasons": [
            {"reason": reason, "files": count, **explain_reason(reason)._asdict()}
            for reason, count in outcomes.most_common()
            if reason != CLEAN
        ],
        "unread_headers": _counts(survey.headless),
        "scanners": [_scanner(number, *pair) for number, pair in enumerate(ordered(survey), 1)],
    }


def _scanner(number: int, scanner: Scanner | None, tally: ScannerTally) -> dict[str, Any]:
    shown = scanner or Scanner(model=f"all scanners beyond the first {MOST_SCANNERS}")
    return {
        "number": number,
        "manufacturer": shown.manufacturer,
        "model": shown.model,
        "software": shown.software,
        "withheld": WITHHELD in (shown.manufacturer, shown.model, shown.software),
        "rows": shown.rows,
        "columns": shown.columns,
        "photometric": shown.photometric,
        "files": tally.files,
        "frames": tally.frames,
        "sop_classes": _counts(tally.sop_classes),
        "transfer_syntaxes": _counts(tally.transfer_syntaxes),
        "regions": _counts(tally.regions),
        "proofs": _counts(tally.proofs),
        "outcomes": _counts(tally.outcomes),
        "clean": tally.outcomes[CLEAN],
        "refused": tally.refused,
        "refused_share": _share(tally.refused, tally.files),
    }


def _counts(counter: Mapping[str, int] | Counter[str]) -> dict[str, int]:
    """Return counts by name, the most frequent first."""
    return {name or _UNNAMED: count for name, count in sorted(counter.items(), key=lambda pair: (-pair[1], pair[0]))}


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0


def _name(scanner: Scanner) -> tuple[str | int, ...]:
    return (
        scanner.manufacturer,
        scanner.model,
        scanner.software,
        scanner.rows,
        scanner.columns,
        scanner.photometric,
    )
