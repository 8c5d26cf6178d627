"""Published results, done again by `fedplan.simulate`: `scripts/reproduce` lists them."""
