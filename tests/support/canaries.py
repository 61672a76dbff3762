"""Looks for planted identifiers in bytes, in every form in which they could have left."""

from __future__ import annotations

import base64
import re
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import quote

_SHORTEST = 6
_SHORTEST_BASE64 = 9
_DATE = re.compile(r"19[0-9]{6}")
_CHARACTER_SETS = ("utf-8", "utf-16-le", "utf-16-be", "latin-1", "gb18030", "shift_jis", "euc_kr")


@dataclass(frozen=True)
class Form:
    """One way in which a text may stand in bytes; a `bounded` one only counts between bytes that are no digits."""

    text: str
    encoding: str
    data: bytes
    bounded: bool = False

    def stands_in(self, data: bytes) -> bool:
        at = data.find(self.data)
        while at >= 0:
            around = data[max(at - 1, 0) : at] + data[at + len(self.data) : at + len(self.data) + 1]
            if not self.bounded or not any(chr(byte).isdigit() for byte in around):
                return True
            at = data.find(self.data, at + 1)
        return False


class Canaries:
    """Searches for texts and for the parts of names, in many encodings.

    A form that holds another one is left out: who finds the shorter one finds both.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = sorted({part for text in texts for part in _parts(text)})
        every = {form.data: form for text in reversed(self.texts) for form in _forms(text)}
        self.forms: list[Form] = []
        for form in sorted(every.values(), key=lambda form: (len(form.data), form.data)):
            if not any(kept.data in form.data and not kept.bounded for kept in self.forms):
                self.forms.append(form)

    def find(self, data: bytes) -> list[Form]:
        """Return the forms that stand in the data."""
        return [form for form in self.forms if form.stands_in(data)]


def _parts(text: str) -> Iterator[str]:
    """Yield a text and, of a name, the components that are long enough to be nothing else."""
    yield text
    components = [part for part in re.split(r"[\^=]", text) if part != text]
    yield from (part for part in components if len(part.encode()) >= _SHORTEST and not part.isdigit())


def _forms(text: str) -> Iterator[Form]:
    plain = text.encode()
    dated = bool(_DATE.fullmatch(text))
    for name in _CHARACTER_SETS:
        try:
            data = text.encode(name)
        except UnicodeEncodeError:
            continue
        yield Form(text, name, data, bounded=dated)
    if dated:
        yield Form(text, "ISO date", f"{text[:4]}-{text[4:6]}-{text[6:]}".encode())
        return
    yield Form(text, "hex", plain.hex().encode())
    yield Form(text, "HEX", plain.hex().upper().encode())
    yield Form(text, "JSON escapes", text.encode("ascii", "backslashreplace"))
    yield Form(text, "URL escapes", quote(text).encode())
    yield Form(text, "lower case", text.lower().encode())
    if len(plain) >= _SHORTEST_BASE64:
        yield from (Form(text, "base64", data) for data in _base64(plain))
    if text.startswith("2.25.") and text[5:].isdigit():
        value = uuid.UUID(int=int(text[5:]))
        yield Form(text, "UUID", str(value).encode())
        yield Form(text, "UUID hex", value.hex.encode())
        yield Form(text, "UUID bytes", value.bytes)
        yield Form(text, "UUID bytes le", value.bytes_le)


def _base64(data: bytes) -> Iterator[bytes]:
    """Yield what stands in any base64 text of bytes that hold these, at each of the three alignments."""
    for offset, first in ((0, 0), (1, 2), (2, 3)):
        whole = (offset + len(data)) // 3 * 4
        encoded = base64.b64encode(bytes(offset) + data)[first:whole]
        yield encoded
        yield encoded.translate(bytes.maketrans(b"+/", b"-_"))
