"""The HTTP face of the gateway, as OpenAI's clients know it, on the same core as the gRPC one."""
