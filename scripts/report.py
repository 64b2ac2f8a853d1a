"""Run `snn-exp report` from a checkout."""

import sys

from snn_exp.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["report", *sys.argv[1:]]))
