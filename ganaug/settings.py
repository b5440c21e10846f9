"""Every setting of every stage, with its default, its range and its meaning; a recipe is one file of them.

They stand in one module, apart from the stages, because the command line shows them and must not import torch to do so.
A default exists here and nowhere else: the command line and the documentation read it from these fields.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic.fields import FieldInfo

from .errors import GanaugError

ImageSize = Literal[16, 32, 64, 128, 256]
IMAGE_SIZES: tuple[int, ...] = get_args(ImageSize)
LARGEST = 2**32  # of all numbers in a recipe
LARGEST_MODEL_SIZE = 4096  # pixels that a classifier enlarges images to
BATCH_SIZE, LARGEST_BATCH_SIZE = 32, 128  # of a GAN, where they are left open
Mirror = Literal["none", "horizontal", "vertical", "both"]
NUMBER = r"\d+(?:\.\d+)?"
UNITS = ("h(?:ours?|rs?)?", "m(?:in(?:ute)?s?)?", "s(?:ec(?:ond)?s?)?")  # of a duration
RUN_BUDGET, DEMO_BUDGET = "10m", "6m"  # of all stages together
RUN_PRESET = "demo"  # of the study of `run` and `demo`, the one that fits into such a budget


def parse_duration(value: object) -> object:
    """`'90s'`, `'5m'`, `'1h30m'`, `'2hours'` or a plain number of seconds -> seconds. Anything else is left for the validator to name.
    Raises `ValueError` for other text, a number in it included: who types 10 may mean minutes."""
    if not isinstance(value, str):
        return value
    text = value.strip().lower()
    if re.fullmatch(NUMBER, text):
        raise ValueError("expected a duration such as 90s, 5m or 1h30m; give a unit: 10m, 90s, 1h")
    match = re.fullmatch("".join(f"(?:({NUMBER}) ?{unit} ?)?" for unit in UNITS), text)
    if not text or match is None:
        raise ValueError("expected a duration such as 90s, 5m or 1h30m")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds


def parse_number(value: object) -> object:
    """`'32' -> 32`: the command line gives text."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def parse_words(value: object) -> object:
    """`'not minority' -> 'not-minority'`: imbalanced-learn writes it with a space."""
    return value.replace(" ", "-") if isinstance(value, str) else value


def parse_list(value: object) -> object:
    """`'a,b' -> ('a', 'b')`; of several texts the parts of all."""
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
        return tuple(name.strip() for part in value for name in part.split(",") if name.strip())
    return value


def parse_budget(value: str | float) -> float:
    """Seconds of a duration. Raises `GanaugError` for anything but a positive one."""
    try:
        seconds = parse_duration(value)
    except ValueError as error:
        raise GanaugError(f"budget {value!r}: {error}.") from None
    if not isinstance(seconds, int | float) or not seconds > 0:
        raise GanaugError(f"budget {value!r}: expected a positive duration such as 90s, 5m or 1h30m.")
    return float(seconds)


Duration = Annotated[float, BeforeValidator(parse_duration), Field(gt=0)]


def takes_duration(field: FieldInfo) -> bool:
    """Whether a setting is a time, given as text with a unit."""
    checks = [
        *field.metadata,
        *(check for part in get_args(field.annotation) for check in getattr(part, "__metadata__", ())),
    ]
    return any(getattr(check, "func", None) is parse_duration for check in checks)


Precision = Literal["auto", "fp32", "bf16"]
FilterName = Literal["copy", "wrong-class", "outlier", "unrealistic", "duplicate"]
SamplingWord = Literal["auto", "all", "minority", "not-minority", "not-majority"]
Counts = dict[str, Annotated[int, Field(ge=0, le=LARGEST)]]
ARM_NAMES = (  # of study/arms.py, in its order, for who must not import it
    "scratch/real",
    "scratch/real+synthetic",
    "discriminator/real",
    "discriminator/real+synthetic",
    "scratch/real+unlabeled",
    "scratch/real+unlabeled+synthetic",
    "scratch/duplicated",
    "scratch/oversampled",
    "scratch/smote",
    "scratch/trivialaugment",
    "scratch/synthetic",
    "scratch/longer",
    "scratch/other-seeds",
)
Preset = Literal["demo", "standard", "thorough"]
Verdict = Literal["helps", "hurts", "equivalent", "inconclusive"]
VERDICTS: tuple[str, ...] = get_args(Verdict)
PRECISION = "bf16 autocast where the hardware has it, else fp32."


class Settings(BaseModel):
    """No number is so large that its products are no numbers any more, or that a list of so many is all the memory there is."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_truth(cls, value: Any, info: ValidationInfo) -> Any:
        kind = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and bool not in (kind, *get_args(kind)):
            raise ValueError("expected no true or false")  # which Python takes for 1 and 0
        return value

    @field_validator("*")
    @classmethod
    def _check_size(cls, value: Any) -> Any:
        if isinstance(value, int | float) and abs(value) > LARGEST:
            raise ValueError(f"expected no number above {LARGEST:,}")
        return value


class DataSettings(Settings):
    """How a folder of images becomes training and test images."""

    image_size: Annotated[Literal["auto"] | ImageSize, BeforeValidator(parse_number)] = Field(
        "auto",
        description="Side of the square images in pixels; auto picks it from the files, at most 32 on a CPU and 128 on a GPU.",
    )
    resize: Literal["crop", "pad", "stretch"] = Field("crop", description="How an oblong image becomes square.")
    test_fraction: float = Field(
        0.2, gt=0, lt=1, description="Share held out for the test where the data has no test split."
    )
    group_regex: str | None = Field(
        None,
        description="Files whose names give the same match (its first group, if any) stay on one side of the split.",
    )
    limit_per_class: Annotated[int, Field(ge=1)] | dict[str, Annotated[int, Field(ge=1)]] | None = Field(
        None,
        description="Train on this many images a class, drawn with data.seed; in a recipe also a mapping, for the classes that it names.",
    )
    mirror: Literal["auto"] | Mirror = Field(
        "auto",
        description="Reflections under which an image keeps its class, used to augment GAN and classifiers alike; "
        "auto allows those that classifiers of the training images are found to survive.",
    )
    unlabeled: Path | None = Field(
        None,
        description="A folder or zip of images of the same classes whose labels are not known: the GAN learns from them, too.",
    )
    seed: int = Field(0, ge=0, lt=2**32, description="Seed of the held-out split and of the limited draw.")


class FitSettings(Settings):
    """The class-conditional GAN and its training. `steps` wins over `budget`; without either, five minutes."""

    strategy: Literal["joint", "per-class", "specialised"] = Field(
        "joint", description="One conditional GAN; one GAN for each class; a joint trunk specialised to each class."
    )
    family: Literal["noise", "mixing"] = Field(
        "noise", description="Images from noise and class; or from the mixed features of two real images of the class."
    )
    budget: Duration = Field(
        300.0,
        description="Wall-clock time for the training, e.g. 5m; turned into steps by the pace of its first fifth.",
    )
    steps: int | None = Field(None, ge=1, description="Training steps in all, instead of a budget.")
    seed: int = Field(0, ge=0, lt=2**32, description="Seed of networks, noise and data order.")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N.")
    precision: Precision = Field(
        "auto", description=f"{PRECISION} On a CPU both are measured where threads or width are."
    )
    threads: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="CPU threads of each GAN's training; by default as many as a short measurement finds fastest of those that are "
        "free for it.",
    )
    jobs: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="GANs at a time, a process each, where a strategy has several; by default as many as the cores allow, one on a "
        "GPU. Under torchrun one.",
    )
    cluster: str | None = Field(
        None,
        description="Address of a Dask scheduler, e.g. tcp://host:8786, whose workers train the GANs; they need the run's folder.",
    )
    compile: Literal["auto"] | bool = Field(
        "auto",
        description="Train networks compiled by torch.compile; auto: on a GPU, in trainings of half an hour and more, where they are "
        "measured to save more time than compiling takes. On a CPU they were found slower.",
    )
    batch_size: Annotated[
        Literal["auto"] | Annotated[int, Field(ge=4, le=2**16, multiple_of=4)], BeforeValidator(parse_number)
    ] = Field(
        "auto",
        description=f"Images of each kind (real, generated) in a step; fours of one class; auto: {BATCH_SIZE}, in one process on a "
        f"GPU up to {LARGEST_BATCH_SIZE} where a step with twice as many takes hardly longer.",
    )
    latent_size: int = Field(
        16,
        ge=2,
        le=2**16,
        description="Length of the noise vector z; for mixing, of the part that modulates the decoder.",
    )
    width: Annotated[Literal["auto"] | Annotated[int, Field(ge=4)], BeforeValidator(parse_number)] = Field(
        "auto",
        description="Channels of the networks at half the image's side, twice as many with each halving; auto takes as many "
        "as leave the budget enough steps, 16 or 32 on a CPU, 32 to 128 on a GPU.",
    )
    learning_rate: float = Field(4e-4, gt=0, description="Adam's rate for both networks.")
    beta2: float = Field(0.9, ge=0, lt=1, description="Adam's second-moment decay; the first is 0.")
    loss: Literal["non-saturating", "hinge", "relativistic"] = Field(
        "non-saturating", description="What the two players minimize."
    )
    r1_weight: float = Field(
        0.05, ge=0, description="Gamma of the gradient penalty on real images, R1, at 32 px; larger images get more."
    )
    r2_weight: float = Field(0.0, ge=0, description="Gamma of the gradient penalty on generated images, R2, at 32 px.")
    penalty_interval: int = Field(8, ge=1, description="Steps between two lazily applied gradient penalties.")
    lecam_weight: float = Field(0.0, ge=0, description="Weight of the LeCam penalty on the discriminator's logits.")
    consistency_weight: float = Field(
        0.0, ge=0, description="Weight of the consistency of the discriminator's logits under augmentation."
    )
    diversity_weight: float = Field(0.3, ge=0, description="Weight of the mode-seeking term.")
    reconstruction_weight: float = Field(
        2.0, ge=0, description="Weight of the reconstruction of real images, in the mixing family."
    )
    classifier_weight: float = Field(
        0.1,
        ge=0,
        description="Weight of the auxiliary classifier's cross-entropy: for the discriminator on real images, for the generator, "
        "as far as conditioning is ramped in, on its own.",
    )
    transition: tuple[Annotated[float, Field(ge=0.2, le=1)], Annotated[float, Field(ge=0.2, le=1)]] = Field(
        (0.3, 0.55), description="Shares of the training between which conditioning is ramped in, from none to full."
    )
    augment: tuple[Literal["color", "translation", "scale", "rotation", "cutout"], ...] = Field(
        ("color", "translation", "scale", "rotation", "cutout"),
        description="Differentiable augmentations; leave out any that breaks a label.",
    )
    deformed_size: float = Field(
        15,
        ge=0,
        description="Training images of a class of which every second one drawn is deformed, more in smaller classes: turned by up to "
        "20 and sheared by up to 19 degrees if rotation is allowed, stretched by up to a third if scale is. "
        "Generated images vary like that, too. 0: none.",
    )
    augment_target: float = Field(
        0.6,
        gt=0.5,
        lt=1,
        description="P(D(trained on) > D(held out)) above which the augmentation is strengthened: .5 is no memorization.",
    )
    augment_limits: tuple[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(ge=0, le=1)]] = Field(
        (0.1, 0.8), description="Least and greatest probability of each augmentation."
    )
    ema_half_life: float = Field(
        0.02, gt=0, le=1, description="Half-life of the averaged generator, as a share of the steps so far."
    )
    validation: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Share of the training images held out to choose the best moment, where the data has no validation split.",
    )
    log_interval: int = Field(
        50, ge=1, le=100, description="Steps between two rows of the metrics file and two looks for divergence."
    )
    sample_interval: Duration = Field(60.0, description="Time between two sample grids.")
    checkpoint_interval: Duration = Field(60.0, description="Time between two resumable checkpoints.")
    tensorboard: bool = Field(
        False, description="Write curves and samples for TensorBoard while it trains, under RUN/tensorboard."
    )

    @property
    def images_per_step(self) -> int:
        """`batch_size`, or what it is tried with first."""
        return BATCH_SIZE if self.batch_size == "auto" else self.batch_size

    @model_validator(mode="after")
    def _check_ranges(self) -> Self:
        for name in ("transition", "augment_limits"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} expects its smaller value first, got {low}, {high}")
        if self.family == "mixing" and self.strategy == "specialised":
            raise ValueError("family mixing goes with strategy joint or per-class, not with specialised")
        return self


class SynthesizeSettings(Settings):
    """Which images the generator writes. At most one of per_class, target_per_class, add and sampling_strategy."""

    per_class: int | None = Field(None, ge=0, description="Synthetic images of each class.")
    target_per_class: int | None = Field(
        None, ge=0, description="Images of each class in all, real training images included."
    )
    add: Counts | None = Field(None, description="Synthetic images of the classes named, and none of the others.")
    sampling_strategy: Annotated[SamplingWord | Counts | None, BeforeValidator(parse_words)] = Field(
        None,
        description="Bring these classes up to the largest one (imbalanced-learn's words), or those of a mapping to so many "
        "images in all.",
    )
    classes: tuple[str, ...] = Field((), description="Only these classes; all by default.")
    seed: int = Field(0, ge=0, lt=2**32, description="Seed of the images; each image derives its own from it.")
    truncation: float = Field(
        1.0, gt=0, le=1, description="Factor on the noise: below 1, safer and less varied images."
    )


class CurationSettings(Settings):
    """Which images may be trusted: the limits of the filters, all calibrated on the real training images."""

    keep: float = Field(
        0.75,
        gt=0,
        le=1,
        description="Share of the candidates to keep at most, the surest of their class, spread like the real ones. "
        "1: all that pass, as they come.",
    )
    without: tuple[FilterName, ...] = Field((), description="Filters that are left out.")
    max_candidates: int = Field(
        20, ge=1, description="Candidates for each image asked for, after which a class is given up."
    )
    copy_deviations: float = Field(
        4.0,
        gt=0,
        description="Standard deviations by which an image must be nearer to a training image than real images are to one another, "
        "relative to the next ones, to be a copy.",
    )
    wrong_class: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="Share of real images whose class classifiers that have not seen them find as improbable.",
    )
    outlier: float = Field(
        0.01, gt=0, lt=1, description="Share of real images that are as far from all others, in pixels or in features."
    )
    unrealistic: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="Share of the candidates, the least real ones to the discriminator, that is dropped.",
    )


class CompareSettings(Settings):
    """The study: arms that differ in one thing each, paired over repetitions, tuned alike, trained to convergence.

    What is None is settled by the preset (see `study/design.py`).
    """

    preset: Preset = Field(
        "standard",
        description="demo: the run's GAN alone, nothing tuned, no evidence; standard: as many GANs as repetitions, tuned and mixed "
        "on inner folds; thorough: all arms that the run allows, more GANs and, where the data has no test split of its own, more splits.",
    )
    arms: Annotated[tuple[str, ...], BeforeValidator(parse_list)] = Field(
        (),
        description="Arms to train, separated by commas; the preset's by default. `ganaug compare --help` names them.",
    )
    splits: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="Splits into training and test images, each with GANs of its own; 1 where the data has a test split.",
    )
    gans: int | None = Field(
        None, ge=1, le=1000, description="GANs of each split; the first split's first is the run's own."
    )
    seeds: int | None = Field(None, ge=2, le=1000, description="Paired repetitions of every arm in each split.")
    tune: bool | None = Field(
        None,
        description="Choose training and mixing of every arm on inner folds, for each of which a GAN is trained that has not seen it.",
    )
    inner_folds: int = Field(
        3, ge=2, le=1000, description="Folds of the training images on which the choices are made."
    )
    updates: int | None = Field(
        None, ge=1, description="Updates of every arm; by default doubled until no arm gains on the inner folds."
    )
    max_updates: int = Field(6400, ge=1, description="Largest number of updates that is tried.")
    budget: Duration | None = Field(
        None,
        description="Wall-clock time for the classifiers; may lower the updates that are tried, which the report then says.",
    )
    longer_updates: int | None = Field(
        None,
        ge=1,
        description="Updates of the longer baseline; by default more by the processor time that the GAN took.",
    )
    equivalence: float = Field(
        1.0, ge=0, description="Differences up to so many points make no difference in practice; 0: any counts."
    )
    drop_duplicates: bool = Field(
        False, description="Leave out test images that copy a training image, where the data would be refused."
    )
    classifier: str = Field(
        "discriminator",
        description="The discriminator's architecture, or a classifier of torchvision's, e.g. resnet18.",
    )
    classifier_weights: Path | None = Field(
        None, description="Weights of the torchvision classifier to start from: a local .pth or .safetensors file."
    )
    classifier_size: int | None = Field(
        None,
        ge=16,
        le=LARGEST_MODEL_SIZE,
        description="Pixels to which a torchvision classifier's images are resized; by default theirs, at least 64.",
    )
    batch_size: int = Field(32, ge=2, le=2**16, description="Real images in an update.")
    synthetic_ratio: float = Field(
        0.5, gt=0, description="Synthetic images in an update for each real one, in the arms that use them."
    )
    synthetic_weight: float = Field(0.5, gt=0, description="Weight of the loss on the synthetic images.")
    real_only_share: float = Field(0.25, ge=0, le=1, description="Last share of the updates, without synthetic images.")
    pool_per_class: int = Field(
        200, ge=1, description="Synthetic images of each class in a draw of the pool, when no folder is given."
    )
    learning_rate: float = Field(2e-3, gt=0, description="Peak of AdamW's one-cycle schedule.")
    weight_decay: float = Field(0.05, ge=0, description="AdamW's weight decay.")
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="Label smoothing of the cross-entropy.")
    jobs: int | None = Field(
        None, ge=1, le=1024, description="Trainings at a time, one thread each; by default one for each core."
    )
    cluster: str | None = Field(
        None,
        description="Address of a Dask scheduler, e.g. tcp://host:8786, whose workers train; they need the study's folder.",
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N.")
    precision: Precision = Field("auto", description=PRECISION)


class ReportSettings(Settings):
    """The page."""

    images_per_class: int = Field(8, ge=1, le=20, description="Real and synthetic images shown for each class.")


class Recipe(Settings):
    """One complete experiment: the settings of every stage."""

    data: DataSettings = DataSettings()
    fit: FitSettings = FitSettings()
    synthesize: SynthesizeSettings = SynthesizeSettings()
    curation: CurationSettings = CurationSettings()
    compare: CompareSettings = CompareSettings()
    report: ReportSettings = ReportSettings()
