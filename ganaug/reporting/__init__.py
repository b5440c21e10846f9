"""The page that tells a person what a study found."""

from .page import report

__all__ = ["report"]
