"""The content of a document, built anew: containers, numbers and codes that are known, and little of the rest.

Nothing is copied but numbers that pass their check: names, values and units are codes that are known, written with the
meaning of the list; UIDs are keyed, dates are as the profile's policy leaves them. An item that cannot be kept goes with all
that hangs on it, and a container that is left empty goes too, so that what stays is a valid tree (PS3.3 C.17.3).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fetalmlops.domain.deid.files.writer import text
from fetalmlops.domain.deid.reports import items as content
from fetalmlops.domain.deid.reports.codes import encode_code, read_code, word
from fetalmlops.domain.deid.reports.references import clean_evidence, listed_instances
from fetalmlops.domain.deid.rules.concepts import Known, known_concepts
from fetalmlops.domain.deid.rules.content import CONTINUITIES, RELATIONS, TEMPLATES

if TYPE_CHECKING:
    from fetalmlops.domain.deid.files.reader import Item
    from fetalmlops.domain.deid.files.writer import Attributes
    from fetalmlops.domain.deid.reports.items import Rules

__all__ = ["clean_document"]

_TITLE = Known("18748-4", "LN", "Diagnostic Imaging Report")


def clean_document(dataset: Item, rules: Rules) -> Attributes:
    """Return the clean root of a document with all that it holds, and its evidence.

    Parameters
    ----------
    dataset
        What was read of the document: `fetalmlops.domain.deid.reports.items.WANTED_DOCUMENT`.
    rules
        What holds for this instance.
    """
    title = read_code(dataset, content.NAME, known_concepts())
    root = _container(dataset)
    root[content.NAME] = ("SQ", encode_code(title or _TITLE))
    if word(dataset, content.VALUE_TYPE) != "CONTAINER":
        return root
    evidence = clean_evidence(dataset, rules.uids)
    rules = replace(rules, listed=listed_instances(evidence, rules.uids))
    children = _children(dataset, "CONTAINER", rules)
    if children:
        root[content.CONTENT] = ("SQ", children)
    return root | evidence


def _children(item: Item, value_type: str, rules: Rules) -> list[Attributes]:
    found = (_item(child, value_type, rules) for child in item.items.get(content.CONTENT, ()))
    return [clean for clean in found if clean is not None]


def _item(item: Item, parent: str, rules: Rules) -> Attributes | None:
    """Return a clean content item with what hangs on it, None if it cannot be kept."""
    value_type, relation = word(item, content.VALUE_TYPE), word(item, content.RELATION)
    sources, targets = RELATIONS.get(relation, ((), ()))
    if parent not in sources or value_type not in targets:
        return None
    name = read_code(item, content.NAME, known_concepts())
    own = _container(item) if value_type == "CONTAINER" else content.clean_value(item, value_type, name, rules)
    if own is None or (name is not None and content.is_hidden(name, rules)):
        return None
    children = _children(item, value_type, rules)
    if not _stands(value_type, children):
        return None
    own |= {content.RELATION: ("CS", text(relation)), content.VALUE_TYPE: ("CS", text(value_type))}
    if name is not None:
        own[content.NAME] = ("SQ", encode_code(name))
    if children:
        own[content.CONTENT] = ("SQ", children)
    return own


def _stands(value_type: str, children: list[Attributes]) -> bool:
    """Return whether an item is something with these children: a container holds something, coordinates lie on an image."""
    needed = {"CONTAINER": b"CONTAINS", "SCOORD": b"SELECTED FROM"}.get(value_type)
    return needed is None or any(child[content.RELATION][1] == needed for child in children)


def _container(item: Item) -> Attributes:
    """Return what makes an item a container: how it hangs together, and the template that it follows."""
    continuity = word(item, content.CONTINUITY)
    clean: Attributes = {
        content.VALUE_TYPE: ("CS", text("CONTAINER")),
        content.CONTINUITY: ("CS", text(continuity if continuity in CONTINUITIES else CONTINUITIES[0])),
    }
    entries = item.items.get(content.TEMPLATE, ())
    if len(entries) == 1 and word(entries[0], content.MAPPING_RESOURCE) == "DCMR":
        identifier = word(entries[0], content.TEMPLATE_IDENTIFIER)
        if identifier in TEMPLATES:
            clean[content.TEMPLATE] = (
                "SQ",
                [
                    {
                        content.MAPPING_RESOURCE: ("CS", text("DCMR")),
                        content.TEMPLATE_IDENTIFIER: ("CS", text(identifier)),
                    }
                ],
            )
    return clean
