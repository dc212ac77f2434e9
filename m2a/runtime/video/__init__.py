"""Deblurring a video frame by frame; all else in the file is kept. Needs PyAV, the extra `video`.

`deblur` is the one call; `source` reads, `colour` goes from a frame's samples to RGB and back,
`encoders` and `target` write.
"""
