"""The space before the last layer: norms, class centers, cones, margins, collapse, and what explains what.

Features h are the input of the last layer, `logits = h @ kernel_DK + bias_K`.
"""
