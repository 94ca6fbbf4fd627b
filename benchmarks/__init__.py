"""Speed, memory and failures, measured by one script each."""
