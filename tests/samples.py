"""Sample events for tests."""

from fetalmlops.domain.contracts.events import (
    Context,
    FramesNormalized,
    InstanceClassified,
    InstanceReceived,
    Lineage,
    ObjectRef,
)
from fetalmlops.domain.contracts.planes import Decision, Role

HEX = "0123456789abcdef" * 2
CONTEXT = Context(
    project="demo",
    source="pacs",
    site="site",
    scanner=HEX,
    software=HEX,
    patient=HEX,
    study=HEX,
    series=HEX,
    instance=HEX,
)
REF = ObjectRef(uri="phi/instances/2026-01-01T00/x.dcm", sha256=HEX * 2, size=3, media_type="application/dicom")
RECEIVED = InstanceReceived(
    content_id=HEX,
    revision=1,
    origin=f"2026-01-01T00/{HEX}",
    context=CONTEXT,
    sop_class_uid="1.2.840.10008.5.1.4.1.1.6.1",
    object=REF,
    transfer_syntax_uid="1.2.840.10008.1.2.1",
)
NORMALIZED = FramesNormalized(
    content_id=HEX,
    revision=1,
    origin=f"2026-01-01T00/{HEX}",
    context=CONTEXT,
    sop_class_uid="1.2.840.10008.5.1.4.1.1.88.33",
    frames=None,
    pipeline_digest=HEX * 2,
    deidentified_sha256=HEX * 2,
    rules_digest=HEX * 2,
    profile="stream",
)


def classified(**changes: object) -> InstanceClassified:
    """Return a result, with changes."""
    lineage = Lineage(
        deidentified_sha256=HEX * 2, frames_sha256=None, profile="stream", rules_digest=HEX * 2, pipeline_digest=HEX * 2
    )
    values = {
        "content_id": HEX,
        "revision": 1,
        "origin": f"2026-01-01T00/{HEX}",
        "context": CONTEXT,
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.6.1",
        "role": Role.CHAMPION,
        "decision": Decision.ACCEPT,
        "lineage": lineage,
        **changes,
    }
    return InstanceClassified(**values)  # type: ignore[arg-type]
