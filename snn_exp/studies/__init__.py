"""Studies: the file that asks, the runs, the committed rows, the judgement, the README."""
