"""Broken input by the hundred thousand: readers, settings, saved folders, records. See `run`."""
