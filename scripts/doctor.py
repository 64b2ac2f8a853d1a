"""Run `snn-exp doctor` from a checkout."""

import sys

from snn_exp.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["doctor", *sys.argv[1:]]))
