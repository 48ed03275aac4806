"""Train one network once, ship the best sub-network for every budget."""
