"""The command line explains itself, and the page shows three members and the new leader after a kill."""

from tests.e2e.conftest import cluster
from tests.e2e.test_status_page import browser
from tests.e2e.test_status_page import (
    test_page_follows_the_leader_through_kills as test_row69_page_follows_the_leader,
)
from tests.unit.cli.test_help import (
    test_help_lists_every_command_and_the_exit_codes as test_row69_help,
)

__all__ = ["browser", "cluster", "test_row69_help", "test_row69_page_follows_the_leader"]
