"""What foretell costs, beside Optuna in the same run, and the recorded trainings that methods are compared on.

`python -m benchmarks [part ...] [--quick] [--data PATH] [--json FILE]`; `make bench` runs every part.
"""
