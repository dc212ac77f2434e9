"""How good the results are: metrics, and evaluation on known truth."""

from m2a.evaluation.evaluate import evaluate
from m2a.evaluation.layouts import find_pairs
from m2a.evaluation.metrics import Overlap, overlap, psnr
from m2a.evaluation.pairs import Pair
from m2a.evaluation.score import Arithmetic, Evaluation, Score

__all__ = [
    "Arithmetic",
    "Evaluation",
    "Overlap",
    "Pair",
    "Score",
    "evaluate",
    "find_pairs",
    "overlap",
    "psnr",
]
