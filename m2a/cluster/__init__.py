"""Deblurring the photos of a folder or an object store on the machines of a Ray cluster.

list → read → actors that hold one `Deblurrer` each → write, by Ray Data. Ray and pyarrow (extra
`ray`) are imported by whoever asks for this package's modules, and by nobody else.
"""
