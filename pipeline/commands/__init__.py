"""The subcommands of `trackletgait` that fill a file each."""
