"""Fleets: many workloads on one inventory of chips, over regions, purchases and periods, at one proved bill."""
