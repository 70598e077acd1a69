"""The stages of benchmarks/accelerator.py: a file each, with `run(report, options)`."""
