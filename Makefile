.DEFAULT_GOAL := help
PY ?= .venv/bin/python

help: ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

proto: ## regenerate replcache/pb from proto/
	$(PY) proto/generate.py

.PHONY: help proto
