"""What a run is asked to do, and where its files are."""
