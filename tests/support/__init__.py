"""What several tests share: made-up studies, jobs and data, small networks, references in plain NumPy."""
