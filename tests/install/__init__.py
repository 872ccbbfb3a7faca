"""The program as it is installed, started, kept and upgraded."""
