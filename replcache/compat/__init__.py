"""Clients of other caches, spoken by replcache."""
