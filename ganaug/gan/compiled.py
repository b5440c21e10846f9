"""The networks compiled by torch.compile: which of them, and where that pays for its time."""

import math
import time
from collections.abc import Callable

import torch

from ..errors import GanaugError
from ..progress import format_duration, say
from ..settings import FitSettings
from .mixing import AnyGenerator
from .networks import Discriminator, Generator
from .ranks import Part

BACKEND = "inductor"
LONG = 30 * 60  # seconds of a training from which on it is worth a trial, which takes up to minutes

Measure = Callable[[FitSettings], float]  # seconds of a training step


def compile_networks(generator: AnyGenerator, discriminator: Discriminator, part: Part) -> None:
    """In place, so that weights, files and copies stay what they are; a copy is not compiled. Each shape of a batch is compiled for
    once. Norms that are shared with other processes, and the warps of the mixing family, stay as they are written."""
    if isinstance(generator, Generator) and part.world == 1:
        generator.compile(backend=BACKEND, dynamic=False)
    discriminator.compile(backend=BACKEND, dynamic=False)


def settle_compile(settings: FitSettings, device: torch.device, world: int, measure: Measure) -> bool:
    """Whether to train with compiled networks. Where that is left open: on a GPU, one process, if what they save in the time of the
    training, measured, is more than compiling took; on a CPU never, since they were slower there (`recipes/benchmarks/compiled.py`).

    Raises `GanaugError` where they are asked for and cannot be compiled.
    """
    asked = settings.compile
    if asked is False or (asked == "auto" and (device.type == "cpu" or world > 1)):
        return False
    if asked == "auto" and settings.steps is None and settings.budget < LONG:
        return False
    as_written, compiled = (settings.model_copy(update={"compile": value}) for value in (False, True))
    pace = measure(as_written) if asked == "auto" else 0.0
    seconds = settings.budget if settings.steps is None else settings.steps * pace
    if asked == "auto" and (seconds < LONG or math.isinf(pace)):  # too short, or a batch that the memory does not hold
        return False
    begun = time.monotonic()
    say("compiling the networks, which may take minutes")
    try:
        pace_of_compiled = measure(compiled)
    except GanaugError:
        raise
    except Exception as error:  # of compilers, which fail in ways of their own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if asked == "auto":
            say(f"networks not compiled, which fails here: {reason}")
            return False
        raise GanaugError(
            f"fit.compile = true: the networks cannot be compiled here: {reason}. torch.compile needs a C++ compiler, and for a GPU "
            "Triton; or set fit.compile=false."
        ) from None
    spent = time.monotonic() - begun
    if asked == "auto":
        pays = (pace - pace_of_compiled) * seconds / pace > spent
        said = f"{1000 * pace_of_compiled:.1f} instead of {1000 * pace:.1f} ms a step, after {format_duration(spent)} of compiling"
        say(f"networks {'compiled' if pays else 'not compiled'}: {said}")
        return pays
    return True
