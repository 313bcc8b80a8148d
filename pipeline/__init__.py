"""The generation library: from news images and texts to caption and explanation shards.

It knows nothing of Prefect and nothing of the trainer. ``python -m pipeline --help`` lists its commands.
"""
