"""Whether the inference service serves what was promoted: asked until it does, or time is over."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from fetalmlops.domain.contracts.planes import Role
from fetalmlops.domain.errors import FetalMLOpsError, PermanentError
from fetalmlops.platform.inference.client import open_inference

if TYPE_CHECKING:
    from collections.abc import Callable

    from fetalmlops.domain.contracts.events import ModelPromoted
    from fetalmlops.platform.inference.client import InferenceClient
    from fetalmlops.platform.settings import Settings

__all__ = ["confirm", "served"]

_EVERY_S: Final = 0.1
_TIMEOUT_S: Final = 2.0


async def confirm(settings: Settings, promotion: ModelPromoted, wait_s: float, say: Callable[[str], None]) -> bool:
    """Wait until the inference service serves what was promoted, and say so, or what it does instead.

    Returns
    -------
    bool
        False if the service answers, and serves another bundle when the time is over.
    """
    if not wait_s:
        return True
    if promotion.role is Role.SHADOW and not settings.inference.shadow:
        say("No shadow runs by these settings: set inference.shadow, then fetalmlops down and up; SHADOW in containers")
        return True
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with open_inference(settings.inference) as client:
        while True:
            found, digest = await served(client, promotion.role)
            took_s = loop.time() - began
            if digest == promotion.bundle_digest:
                say(f"The inference service serves it, {took_s:.1f} s after the event")
                return True
            if took_s > wait_s:
                break
            await asyncio.sleep(_EVERY_S)
    if digest is None:
        say(f"Whether it serves is not known: {found}")
        return True
    say(f"The inference service goes on with {found}: its /readyz says why under bundle_refused, as does an alarm")
    return False


async def served(client: InferenceClient, role: Role) -> tuple[str, str | None]:
    """Return what serves in a role, in words, and its digest: empty where none does, None where nobody answers."""
    try:
        model = (await client.metadata(role=role, timeout=_TIMEOUT_S)).model
    except PermanentError:
        return "none", ""
    except FetalMLOpsError as error:
        return str(error), None
    return f"{model.name} {model.version}, digest {model.bundle_digest[:12]}", model.bundle_digest
