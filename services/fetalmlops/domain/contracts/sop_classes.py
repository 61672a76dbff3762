"""The storage SOP classes of the system: which are accepted, and which of them carry an image."""

from __future__ import annotations

__all__ = ["DOCUMENT_CLASSES", "IMAGE_CLASSES", "STORAGE_CLASSES", "has_image"]

IMAGE_CLASSES: dict[str, str] = {
    "1.2.840.10008.5.1.4.1.1.6.1": "Ultrasound Image Storage",
    "1.2.840.10008.5.1.4.1.1.3.1": "Ultrasound Multi-frame Image Storage",
    "1.2.840.10008.5.1.4.1.1.6": "Ultrasound Image Storage (Retired)",
    "1.2.840.10008.5.1.4.1.1.3": "Ultrasound Multi-frame Image Storage (Retired)",
    "1.2.840.10008.5.1.4.1.1.6.2": "Enhanced US Volume Storage",
    "1.2.840.10008.5.1.4.1.1.7": "Secondary Capture Image Storage",
    "1.2.840.10008.5.1.4.1.1.7.1": "Multi-frame Single Bit Secondary Capture Image Storage",
    "1.2.840.10008.5.1.4.1.1.7.2": "Multi-frame Grayscale Byte Secondary Capture Image Storage",
    "1.2.840.10008.5.1.4.1.1.7.3": "Multi-frame Grayscale Word Secondary Capture Image Storage",
    "1.2.840.10008.5.1.4.1.1.7.4": "Multi-frame True Color Secondary Capture Image Storage",
}
"""UID and name (PS3.4 Annex B) of the accepted classes with an image."""

DOCUMENT_CLASSES: dict[str, str] = {
    "1.2.840.10008.5.1.4.1.1.88.11": "Basic Text SR Storage",
    "1.2.840.10008.5.1.4.1.1.88.22": "Enhanced SR Storage",
    "1.2.840.10008.5.1.4.1.1.88.33": "Comprehensive SR Storage",
    "1.2.840.10008.5.1.4.1.1.88.34": "Comprehensive 3D SR Storage",
    "1.2.840.10008.5.1.4.1.1.88.35": "Extensible SR Storage",
    "1.2.840.10008.5.1.4.1.1.88.59": "Key Object Selection Document Storage",
}
"""UID and name of the accepted classes without one: their result is ``not_applicable``."""

STORAGE_CLASSES: dict[str, str] = {**IMAGE_CLASSES, **DOCUMENT_CLASSES}
"""All accepted storage SOP classes."""


def has_image(sop_class_uid: str) -> bool:
    """Return whether instances of a SOP class carry an image.

    Examples
    --------
    >>> has_image("1.2.840.10008.5.1.4.1.1.6.1"), has_image("1.2.840.10008.5.1.4.1.1.88.33")
    (True, False)
    """
    return sop_class_uid in IMAGE_CLASSES
