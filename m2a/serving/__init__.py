"""Deblurring over HTTP: `m2a serve`. Needs the extra `serve`."""
