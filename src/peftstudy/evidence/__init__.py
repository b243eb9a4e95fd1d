"""How sure a comparison is: intervals, tests, ranks, and what claims come to."""
