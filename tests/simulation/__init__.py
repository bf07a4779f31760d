"""A seeded simulation, in virtual time, of store, hub, runner, service, connections and clients; and its judge.

One seed decides everything: `python -m tests.simulation SEED` plays it again. Nothing here sleeps, opens a socket, starts
a thread or reads a clock, so a seed of a minute costs some hundredths of a second.
"""
