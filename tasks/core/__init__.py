"""What every task stands on. Imports nothing heavy by itself."""
