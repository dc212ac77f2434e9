"""Scores of `m2a eval` of which only some fields matter."""

from __future__ import annotations

from m2a.evaluation import Score


def score_of(**fields):
    usual = {"iou": 0.5, "precision": 0.5, "recall": 0.5, "coverage": 0.2}
    usual |= {"psnr_whole_before": 30.0, "psnr_whole_after": 31.0}
    unknown = ("ssim_before", "ssim_after", "ssim_whole_before", "ssim_whole_after")
    usual |= dict.fromkeys((*unknown, "visible_iou", "angle_error", "flop_share"))
    return Score(**({"name": "x", "psnr_before": 20.0, "psnr_after": 21.0} | usual | fields))
