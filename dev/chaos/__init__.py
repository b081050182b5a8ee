"""The fault campaign: whole exports on this machine while everything around them fails, and a verdict on each.

    python -m dev.chaos --seed 7

What it injects, what it checks and how its time is scaled is described in docs/reliability.md.
"""
