"""From committed shards and image files to batches: joined rows, tokens, pixels, order."""
