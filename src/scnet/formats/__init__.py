"""What results are written as; one file each."""
