"""Photos and masks → patches → index → shards → batches."""
