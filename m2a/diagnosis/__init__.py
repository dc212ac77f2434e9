"""Diagnosis: what of this machine and installation m2a can use, and how to mend the rest.

Each check asks a source (a file, a library, a program) and judges the answer in a function of
its own, which the tests feed with answers of machines that are not at hand. Nothing but the
standard library is imported before a check needs it: NumPy may be what is broken.
"""
