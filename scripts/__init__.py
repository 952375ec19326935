"""Commands that a person runs, and the code behind them."""
