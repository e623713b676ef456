"""The parts of the HTML report of closed-loop runs: reading, plans, plots, film strips, tables. Runs no episode."""
