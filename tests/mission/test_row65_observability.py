"""Metrics, dashboard and alerts name what exists (the promise at its full size; `make test` runs it, too)."""

from tests.integration.test_observability_files import (
    test_every_alert_has_its_section_in_the_runbook_and_the_other_way_round as test_row65_runbook,
)
from tests.integration.test_observability_files import (
    test_every_query_names_an_exported_metric as test_row65_every_query_names_an_exported_metric,
)

__all__ = ["test_row65_every_query_names_an_exported_metric", "test_row65_runbook"]
