"""Run `snn-exp` as a module."""

from snn_exp.cli.main import entry_point

if __name__ == "__main__":
    entry_point()
