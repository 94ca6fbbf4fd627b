"""What is no test."""

# Imported by name: a second import would make a second device.
collect_ignore = ["elsewhere.py"]
