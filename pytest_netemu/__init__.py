"""netemu as pytest fixtures, assertion helpers and conformance suites."""
