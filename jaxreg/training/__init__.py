"""Training: programs of trials, the step, the loop, and what it leaves: checkpoints, snapshots, curves, predictions."""
