"""How good the results are: metrics, and the evaluation of a bundle on known truth."""

from m2a.evaluation.evaluate import Evaluation, Score, evaluate
from m2a.evaluation.metrics import Overlap, overlap, psnr

__all__ = ["Evaluation", "Overlap", "Score", "evaluate", "overlap", "psnr"]
