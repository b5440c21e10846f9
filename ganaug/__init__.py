"""ganaug: GAN-based image augmentation for small labeled sets, with an honest verdict on whether it helped.

Each command of the command line is a function here. Nothing heavy is imported until one of them is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .browsing.browse import browse
    from .classify.predictor import predict
    from .data.check import CheckReport, Problem, check
    from .errors import GanaugError
    from .gan.forecast import Estimate, estimate_fit
    from .gan.training import fit
    from .integrations.classifier import GANClassifier
    from .integrations.datasets import AugmentedDataset
    from .integrations.generated import GeneratorDataset
    from .integrations.generator import Generator
    from .integrations.replace import GANReplace
    from .integrations.sampler import GANSampler
    from .pipeline import Result, demo, estimate_run, run
    from .recipe import load_recipe
    from .reporting.page import report
    from .settings import Recipe
    from .study.compare import compare, estimate_compare
    from .study.comparison import Comparison
    from .study.export import export_classifier
    from .synthesis.audit import audit
    from .synthesis.forecast import SynthesisEstimate, estimate_synthesize
    from .synthesis.rebuild import rebuild
    from .synthesis.synthesize import synthesize
    from .watch import Status, status

__version__ = "0.1.0"

_HOMES = {
    "AugmentedDataset": "integrations.datasets",
    "CheckReport": "data.check",
    "Comparison": "study.comparison",
    "Estimate": "gan.forecast",
    "GANClassifier": "integrations.classifier",
    "GANSampler": "integrations.sampler",
    "GANReplace": "integrations.replace",
    "GanaugError": "errors",
    "Generator": "integrations.generator",
    "GeneratorDataset": "integrations.generated",
    "Problem": "data.check",
    "Recipe": "settings",
    "Result": "pipeline",
    "Status": "watch",
    "SynthesisEstimate": "synthesis.forecast",
    "audit": "synthesis.audit",
    "browse": "browsing.browse",
    "check": "data.check",
    "compare": "study.compare",
    "demo": "pipeline",
    "estimate_compare": "study.compare",
    "estimate_fit": "gan.forecast",
    "estimate_run": "pipeline",
    "estimate_synthesize": "synthesis.forecast",
    "export_classifier": "study.export",
    "fit": "gan.training",
    "load_recipe": "recipe",
    "predict": "classify.predictor",
    "rebuild": "synthesis.rebuild",
    "report": "reporting.page",
    "run": "pipeline",
    "status": "watch",
    "synthesize": "synthesis.synthesize",
}

__all__ = [
    "AugmentedDataset",
    "CheckReport",
    "Comparison",
    "Estimate",
    "GANClassifier",
    "GANReplace",
    "GANSampler",
    "GanaugError",
    "Generator",
    "GeneratorDataset",
    "Problem",
    "Recipe",
    "Result",
    "Status",
    "SynthesisEstimate",
    "audit",
    "browse",
    "check",
    "compare",
    "demo",
    "estimate_compare",
    "estimate_fit",
    "estimate_run",
    "estimate_synthesize",
    "export_classifier",
    "fit",
    "load_recipe",
    "predict",
    "rebuild",
    "report",
    "run",
    "status",
    "synthesize",
]


def __getattr__(name: str) -> Any:
    """Imports a public name at its first use: PEP 562."""
    if name not in _HOMES:
        raise AttributeError(f"module 'ganaug' has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
