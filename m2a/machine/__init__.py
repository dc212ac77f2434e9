"""The machine m2a runs on, asked without any package: nothing here needs NumPy."""
