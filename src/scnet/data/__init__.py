"""From COCO-format files to batches."""
