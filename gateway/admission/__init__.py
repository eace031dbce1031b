"""Who is let in when: callers' quotas, and whether a deadline can be met by what was measured."""
