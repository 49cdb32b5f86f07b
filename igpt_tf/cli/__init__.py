"""The command line: one module a subcommand; only here are arguments parsed and lines printed."""
