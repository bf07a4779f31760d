"""`python -m runcast.cli`: the same as `runcast`."""

from runcast.cli import main

main()
