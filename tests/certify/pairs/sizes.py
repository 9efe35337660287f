"""What tests/certify/pairs/ports.py imports from beside itself."""

WIDTH = 8
