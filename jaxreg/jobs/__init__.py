"""A study as jobs: what each holds, what it costs, how far it is, and how launchers start them."""
