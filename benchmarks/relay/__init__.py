"""What a gateway adds to a call that it passes on, beside what Envoy adds."""
