"""Certificates of decisions: write, read, check; regret and gap."""
