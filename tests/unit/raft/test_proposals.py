"""The three endings of a proposal: what `abandon` may call certain."""

from replcache.errors import NoLeader, OutcomeUnknown
from replcache.raft.proposals import Proposals, command_bytes
from replcache.statemachine.commands import Command, Compare, Condition, Delete, Evict, Set, Txn


def proposals() -> Proposals:
    return Proposals("n1/1", 1, bytes_max=10**6, group_bytes_max=10**6)


def command(number: int) -> Command:
    return Command(ops=(Set(b"k%d" % number, b"v"),))


def test_command_that_was_never_sent_is_certainly_not_applied() -> None:
    table = proposals()
    proposal = table.submit(command(1), 64, lambda outcome: None)
    table.form_groups()
    assert isinstance(proposal.abandon(), NoLeader)
    assert table.take_unsent(1, 0.0) == []


def test_command_in_a_group_that_others_wait_for_is_not_certain() -> None:
    """The group is sent later because of the others, and this command is executed with them."""
    table = proposals()
    impatient = table.submit(command(1), 64, lambda outcome: None)
    table.submit(command(2), 64, lambda outcome: None)
    table.form_groups()
    assert isinstance(impatient.abandon(), OutcomeUnknown)
    assert len(table.take_unsent(1, 0.0)) == 1


def test_command_whose_every_copy_was_refused_is_certainly_not_applied() -> None:
    table = proposals()
    proposal = table.submit(command(1), 64, lambda outcome: None)
    table.form_groups()
    ((sequence, attempt, _),) = table.take_unsent(1, 0.0)
    table.refused(sequence, attempt)
    assert isinstance(proposal.abandon(), NoLeader)


def test_command_with_a_copy_under_way_is_not_certain() -> None:
    table = proposals()
    proposal = table.submit(command(1), 64, lambda outcome: None)
    table.form_groups()
    table.take_unsent(1, 0.0)
    assert isinstance(proposal.abandon(), OutcomeUnknown)


def test_giving_up_twice_counts_once() -> None:
    """A deadline and a cancellation may fall into one loop turn; the other caller's answer still comes."""
    table = proposals()
    outcomes: list[object] = []
    impatient = table.submit(command(1), 64, lambda outcome: None)
    table.submit(command(2), 64, outcomes.append)
    table.form_groups()
    ((sequence, attempt, _),) = table.take_unsent(1, 0.0)
    impatient.abandon()
    impatient.abandon()
    table.refused(sequence, attempt)
    assert len(table.take_unsent(2, 1.0)) == 1
    table.resolve(sequence, [(), ()])
    assert outcomes == [()]
    assert (table.unknown, table.applied) == (1, 1)


def test_no_group_outgrows_its_limit_whatever_its_commands_are_made_of() -> None:
    """They are all open at once, as after an election."""
    limit, large = 10**6, b"x" * 300_000
    table = Proposals("n1/1", 1, bytes_max=10**8, group_bytes_max=limit)
    commands = [
        Command(ops=(Txn(then_ops=(Set(b"k", large),)),)),
        Command(ops=(Txn(compares=(Compare(b"k", Condition(if_value=large)),)),)),
        Command(ops=(Delete(b"k", Condition(if_value=large)),)),
        Command(ops=(Evict((b"k" * 1000,) * 300),)),
    ] * 5
    for one in commands:
        table.submit(one, command_bytes(one), lambda outcome: None)
    table.form_groups()
    groups = table.take_unsent(1, 0.0)
    assert len(groups) >= 6
    assert max(len(payload) for _, _, payload in groups) <= limit
