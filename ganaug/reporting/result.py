"""study.json as the report reads it: what it must hold, and what it may hold besides."""

from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..settings import Preset, Verdict

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Primary(Part):
    """The comparison on which the verdict rests."""

    arm: str
    baseline: str
    metric: str


class Difference(Part):
    """`arm` minus `baseline`; every score is a fraction in 0..1, so every difference lies in -1..1."""

    arm: str
    baseline: str
    metric: str
    mean: float
    low: float | None = None
    high: float | None = None
    p_value: Share | None = None
    p_holm: Share | None = None  # after Holm's adjustment for all questions
    pairs: int = 0
    values: list[float] = []
    verdict: Verdict


class ClassDifference(Part):
    """Of the recall of one class, with its 95 % interval."""

    arm: str
    baseline: str
    class_name: str = Field(alias="class")
    mean: float
    low: float
    high: float


class Noise(Part):
    """What a single repetition's difference owes to one source of chance; None where that was not varied by itself."""

    source: str
    deviation: float | None = Field(None, ge=0)
    share: Share | None = None


class McNemar(Part):
    """McNemar's exact test between two ensembles; counts of the test images that one of them alone gets right."""

    arm: str
    baseline: str
    arm_only: Count
    baseline_only: Count
    p_value: Share


class Repetition(Part):
    """One paired training of all arms, by the numbers of what it drew anew."""

    split: int
    gan: int  # of the split
    draw: int  # of the GAN's images
    seed: int  # of the classifier


class Candidate(Part):
    updates: int
    balanced_accuracy: float | None = None
    log_loss: float | None = None


class Updates(Part):
    """How many updates every arm was trained for, and the inner validation scores that led there."""

    chosen: int
    converged: bool | None = None
    candidates: list[Candidate] = []


class Training(Part):
    """What an arm was given."""

    updates: int
    learning_rate: float
    weight_decay: float
    label_smoothing: float
    augmentation: str
    strength: float  # of the augmentation
    cutmix: Share = 0.0  # of the updates
    backbone_rate: float = 1.0  # of the learning rate, for all layers but the head

    @property
    def augmentation_words(self) -> str:
        return f"{self.augmentation} and CutMix" if self.cutmix else self.augmentation

    @property
    def rate_words(self) -> str:
        rate = f"{self.learning_rate:g}"
        return rate if self.backbone_rate == 1 else f"{rate}, backbone {self.learning_rate * self.backbone_rate:g}"


class Mixing(Part):
    """How what stands beside the real images came in."""

    ratio: float  # images in an update for each real one
    weight: float  # of their loss
    real_only_share: Share  # last share of the updates, without them
    truncation: float = 1.0  # of the GAN's inputs; 1 leaves them as they are


class Tried(Part):
    """One candidate of the search on the inner folds."""

    arm: str
    step: str  # training, mixing or updates
    setting: dict[str, Any]
    balanced_accuracy: float | None = None
    log_loss: float | None = None
    chosen: bool = False


class Choice(Part):
    """What was chosen for one split. Arms that are not named in `trainings` were given what the baseline was."""

    chosen: int
    converged: bool | None = None
    converged_arms: dict[str, bool] = {}
    trainings: dict[str, Training] = {}
    mixing: Mixing | None = None
    worth_mixing: bool | None = None  # whether synthetic images did better than none; None where that was not asked
    candidates: list[Tried] = []


class Needed(Part):
    """What would settle an inconclusive verdict, were the difference as measured; None where that alone would not."""

    repetitions: float | None = Field(None, ge=0)  # or splits or GANs, whichever are independent
    times_test_images: float | None = Field(None, ge=0)


class Result(Part):
    """The contents of `study.json`."""

    verdict: Verdict
    baseline_guesses: bool | None = (
        None  # whether it cannot be told from guessing; studies of earlier versions do not say
    )
    sentence: str = Field(min_length=1)
    preset: Preset | None = None
    primary: Primary
    equivalence: float | None = Field(None, ge=0)  # differences up to this make none in practice
    arms: dict[str, dict[str, list[float]]] = Field(min_length=1)  # arm -> metric -> a score for each repetition
    differences: list[Difference] = []
    class_differences: list[ClassDifference] = []
    variance: list[Noise] = []
    needed: Needed = Needed()
    mcnemar: list[McNemar] = []
    per_class: dict[str, dict[str, list[float | None]]] = {}  # arm -> class -> recall for each repetition
    confusion: dict[str, list[list[int]]] = {}  # arm -> (K, K), rows are the truth
    class_names: list[str] = Field(min_length=1)
    counts: dict[str, dict[str, int]] = {}  # "train", "test", "synthetic" -> class -> images
    repetitions: list[Repetition] = []
    seeds: list[int] = []
    updates: Updates | None = None
    choices: list[Choice] = []  # one for each split
    settings: dict[str, Any] = {}
    versions: dict[str, str | None] = {}
    source: str = "unnamed data"
    notes: list[str] = []
    seconds: float | None = None
    run: str | None = None
    reproduce: list[str] = []

    @model_validator(mode="after")
    def _check_shapes(self) -> "Result":
        expected = len(self.class_names)
        for arm, matrix in self.confusion.items():
            if len(matrix) != expected or any(len(row) != expected for row in matrix):
                raise ValueError(f"confusion of {arm!r} must be {expected} x {expected}, one row for each class")
        return self

    def total(self, kind: str) -> int | None:
        """Images of a kind ("train", "test", "synthetic") over all classes; None if the study does not say."""
        return sum(self.counts[kind].values()) if kind in self.counts else None

    def primary_difference(self) -> Difference | None:
        key = (self.primary.arm, self.primary.baseline, self.primary.metric)
        return next((row for row in self.differences if (row.arm, row.baseline, row.metric) == key), None)

    @property
    def chance(self) -> float | None:
        """The balanced accuracy of guesses; None of a single class."""
        counts = self.counts.get("test")
        tested = sum(number > 0 for number in counts.values()) if counts else len(self.class_names)
        return 1 / tested if tested > 1 else None

    @property
    def guesses(self) -> bool:
        """Whether the baseline cannot be told from guessing; where the study does not say, whether it is no better than that."""
        if self.baseline_guesses is not None:
            return self.baseline_guesses
        scores = self.arms.get(self.primary.baseline, {}).get("balanced_accuracy", [])
        return bool(scores) and self.chance is not None and sum(scores) <= self.chance * len(scores)

    @property
    def num_repetitions(self) -> int:
        """0 if the study does not say."""
        return len(self.repetitions) or len(self.seeds)

    @property
    def num_splits(self) -> int:
        return len({repetition.split for repetition in self.repetitions}) or 1

    @property
    def num_gans(self) -> int:
        """Distinct GANs among the repetitions; 0 if the study does not say."""
        return len({(repetition.split, repetition.gan) for repetition in self.repetitions})


class CuratedClass(Part):
    """What became of the candidates of one class. An image may be rejected for several reasons."""

    real: Count
    candidates: Count
    kept: Count
    rejected: dict[str, Count] = {}
    surplus: Count | None = None  # that passed and were not needed; unknown of earlier versions
    data_copying: float | None = None

    def shares(self) -> tuple[float, float, float] | None:
        """Of the candidates: kept, not needed, rejected; None where that is not known."""
        if self.surplus is None or not self.candidates or self.kept + self.surplus > self.candidates:
            return None
        kept, surplus = self.kept / self.candidates, self.surplus / self.candidates
        return kept, surplus, max(0.0, 1 - kept - surplus)


class Curation(Part):
    """The contents of a synthetic folder's curation.json."""

    classes: dict[str, CuratedClass] = Field(min_length=1)

    def reasons(self, always: Collection[str] = ()) -> list[str]:
        """The names of all filters that rejected something, and of those in `always`."""
        found = {name for row in self.classes.values() for name, count in row.rejected.items() if count}
        return sorted(found | set(always))

    def total(self, name: Literal["candidates", "kept"]) -> int:
        return sum(getattr(row, name) for row in self.classes.values())

    def shares(self) -> dict[str, tuple[float, float, float] | None]:
        """Of the candidates of each class; empty where none is known."""
        found = {name: row.shares() for name, row in self.classes.items()}
        return found if any(found.values()) else {}
