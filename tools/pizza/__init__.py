"""The pizza test: does a model see what is drawn? Over gRPC, as a user would ask."""
