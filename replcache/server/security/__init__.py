"""Who may do what: identities, rights, limits, audit. Everything is refused that no rule allows."""
