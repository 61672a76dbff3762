"""Recipes: everything that decides what a training gives, besides the data and the weights it starts from.

A recipe is TOML. Its digest is that of its meaning, not of its text: comments and order change nothing.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import tomli_w
from msgspec import Meta, Struct

from fetalmlops.domain.contracts.planes import ReleaseStatus
from fetalmlops.domain.errors import SettingsError
from fetalmlops.domain.imaging.pipelines import PLAIN
from fetalmlops.domain.models.manifest import Fit, InputSpec

__all__ = [
    "FORMAT",
    "RECIPE_FILE",
    "Augmentation",
    "Balance",
    "Choice",
    "Fitting",
    "NetworkEntry",
    "Range",
    "Recipe",
    "TrainingPrecision",
    "decode_recipe",
    "encode_recipe",
    "find_recipe",
    "packaged_recipes",
    "recipe_digest",
]

FORMAT: Final = 1
"""Version of the layout that this code reads and writes."""

RECIPE_FILE: Final = "recipe.toml"
"""Name of the recipe among the files of a bundle that was trained by it."""

_PACKAGED: Final = resources.files("fetalmlops.training") / "recipes"

Share = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[float, Meta(gt=0)]
NotNegative = Annotated[float, Meta(ge=0)]
Count = Annotated[int, Meta(ge=1)]


class Balance(StrEnum):
    """How often images are drawn: each once, or by the square root of how many their class and their patient have."""

    NONE = "none"
    SQRT = "sqrt"


class Choice(StrEnum):
    """Which epoch's weights are taken: those with the highest macro-F1 on the validation images, or the last."""

    BEST = "best"
    LAST = "last"


class TrainingPrecision(StrEnum):
    """Arithmetic of the forward pass; weights and optimiser stay in f32."""

    F32 = "f32"
    BF16 = "bf16"


class NetworkEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which network: a name that `fetalmlops.training.networks` knows.

    ``widths`` are the channels of the stages of ``residual``; the others have theirs by name.
    """

    name: Annotated[str, Meta(pattern=r"^[a-z0-9_]{1,40}$")] = "residual"
    widths: Annotated[tuple[Annotated[int, Meta(ge=4, le=1024)], ...], Meta(min_length=2, max_length=8)] = (
        16,
        32,
        64,
        80,
    )


class Fitting(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the network is fitted by AdamW.

    The learning rate rises to ``learning_rate`` over the share ``warmup`` of all steps and falls along a cosine. One epoch
    draws as many images as there are, or ``images_per_epoch`` if that is not 0. ``brain_weight`` is what the loss of the
    brain head counts. A checkpoint is written at the end of every epoch, and every ``checkpoint_steps`` steps if not 0.
    The first ``freeze`` stages of the trunk stay as they began, weights and batch normalisations; that is for weights to start
    from. The learning rate of each further stage is that of the next one times ``stage_rate``, of the last that of the heads.
    ``choice`` names the epoch whose weights are taken, and ``start_share`` how much of the weights that it began with is mixed
    into them: the mean of both errs less on either's images than its distance from them lets expect [1]_.

    References
    ----------
    .. [1] Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022.
    """

    epochs: Count = 12
    batch: Count = 48
    images_per_epoch: Annotated[int, Meta(ge=0)] = 0
    learning_rate: Positive = 3e-3
    weight_decay: NotNegative = 0.02
    warmup: Share = 0.1
    smoothing: Share = 0.05
    brain_weight: NotNegative = 1.0
    balance: Balance = Balance.SQRT
    freeze: Annotated[int, Meta(ge=0)] = 0
    stage_rate: Annotated[float, Meta(gt=0, le=1)] = 1.0
    precision: TrainingPrecision = TrainingPrecision.BF16
    checkpoint_steps: Annotated[int, Meta(ge=0)] = 100
    choice: Choice = Choice.BEST
    start_share: Share = 0.0


class Augmentation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far training images are varied. Sizes are the most that is drawn; shares are how often; 0 leaves a step out.

    ``turn`` in degrees, ``shift`` and ``scale`` as shares of the frame, ``gamma``, ``gain`` and ``attenuation`` as
    logarithms of the factor, ``speckle`` and ``noise`` as standard deviations (of the factor on a grey level, and in grey
    levels), ``blur`` in pixels. ``flip``, ``blurred``, ``shadows``, ``background`` (BackMix: what lies beside the sector is
    taken from another image) and ``strips`` (writing) are shares of the images.
    """

    turn: Annotated[float, Meta(ge=0, le=180)] = 12.0
    shift: Share = 0.05
    scale: Share = 0.12
    flip: Share = 0.5
    gamma: NotNegative = 0.35
    gain: NotNegative = 0.15
    attenuation: NotNegative = 0.4
    speckle: NotNegative = 0.15
    noise: NotNegative = 3.0
    blur: NotNegative = 1.2
    blurred: Share = 0.3
    shadows: Share = 0.3
    background: Share = 0.5
    strips: Share = 0.3


class Range(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a search may set a field to: one of ``choices``, or a number from ``low`` to ``high``, drawn in logarithms."""

    choices: list[Any] = []
    low: float | None = None
    high: float | None = None
    log: bool = True

    def __post_init__(self) -> None:
        bounds = self.low is not None and self.high is not None and self.low < self.high
        if bool(self.choices) == bounds or (bounds and self.log and (self.low or 0) <= 0):
            msg = "Expected choices, or low < high (above 0 where log is true), got another range"
            raise ValueError(msg)


class Recipe(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A recipe.

    ``pipeline`` names the normalisation; ``init`` weights to start from, empty for random ones; ``accuracy`` is what accepted
    validation images must reach together, which sets the thresholds. ``search`` maps fields, such as
    ``fitting.learning_rate``, to what ``fetalmlops tune`` may set them to; it decides no training, and the digest leaves
    it out.
    """

    format: int = FORMAT
    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9.-]{0,47}$")]
    version: Annotated[str, Meta(pattern=r"^\d+\.\d+\.\d+$")]
    licence: str = "not stated"
    release_status: ReleaseStatus = ReleaseStatus.CANDIDATE
    seed: Annotated[int, Meta(ge=0, lt=2**31)] = 1
    pipeline: str = PLAIN
    init: str = ""
    accuracy: Share = 0.95
    network: NetworkEntry = NetworkEntry()
    input: InputSpec
    fitting: Fitting = Fitting()
    augmentation: Augmentation = Augmentation()
    search: dict[str, Range] = {}


def decode_recipe(data: bytes) -> Recipe:
    r"""Read a recipe.

    Raises
    ------
    SettingsError
        If it is not TOML, breaks the schema, or is of another format.

    Examples
    --------
    >>> decode_recipe(b'name = "small"\nversion = "1.0.0"\n[input]\nrows = 64\ncolumns = 80\n').fitting.epochs
    12
    """
    try:
        recipe = msgspec.toml.decode(data, type=Recipe)
    except (msgspec.MsgspecError, ValueError) as error:
        msg = f"Expected a recipe of format {FORMAT}, got a file that breaks it: {error}; mend it"
        raise SettingsError(msg) from None
    if recipe.format != FORMAT or recipe.input.fit is Fit.UNKNOWN:
        msg = f"Expected a recipe of format {FORMAT} with the fit {Fit.PAD} or {Fit.STRETCH}, got another; mend it"
        raise SettingsError(msg)
    return recipe


def encode_recipe(recipe: Recipe) -> bytes:
    """Return a recipe as TOML; `decode_recipe` gives the same recipe back."""
    return tomli_w.dumps(_without_none(msgspec.to_builtins(recipe))).encode()


def recipe_digest(recipe: Recipe) -> str:
    """Return the SHA-256, as 64 hexadecimal digits, of what a recipe means."""
    told = msgspec.to_builtins(recipe)
    del told["search"]
    return hashlib.sha256(msgspec.json.encode(told, order="deterministic")).hexdigest()


def packaged_recipes() -> list[str]:
    """Return the names of the recipes that come with the package."""
    return sorted(file.name.removesuffix(".toml") for file in _PACKAGED.iterdir() if file.name.endswith(".toml"))


def find_recipe(name: str) -> Recipe:
    """Return a packaged recipe by name, or the one in a file.

    Raises
    ------
    SettingsError
        If there is none, or it breaks the schema.
    """
    if name in packaged_recipes():
        return decode_recipe((_PACKAGED / f"{name}.toml").read_bytes())
    try:
        return decode_recipe(Path(name).read_bytes())
    except OSError:
        msg = f"Expected a recipe among {', '.join(packaged_recipes())}, or a TOML file, got neither; name one"
        raise SettingsError(msg) from None


def _without_none(value: Any) -> Any:
    """Return a table without what is not set: TOML has no word for it."""
    if isinstance(value, dict):
        return {name: _without_none(each) for name, each in value.items() if each is not None}
    return value
