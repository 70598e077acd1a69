"""Probe of confidence: metrics, post-hoc calibration, noise floor, intervals, reliability diagrams."""
