"""One file for each framework that foretell can work with."""
