"""Many runs: what a command would run, Hydra's launchers, live progress, search."""
