"""Readers of task data: tables, local folders, the hub."""
