"""Several workers on one table: which devices each gets, its process, and what becomes of workers that die.

Workers share a table by its claims (``pipeline.shards.claims``) and need nobody to divide it. What is here
starts them, keeps as many at work as were asked for, and says when the table is finished.
"""
