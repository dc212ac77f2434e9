"""Deblurring a video frame by frame; all else in the file is kept. Needs PyAV, the extra `video`.

`deblur` is the one call; `footage` tells what a video is and `source` reads it, `colour` goes from
a frame's samples to RGB and back, `target` writes, with `encoders` and `streams`.
"""
