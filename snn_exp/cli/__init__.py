"""The command line: main, one file per subcommand, and what they share."""
