"""gRPC's interoperability test services: `interop.proto` and what is generated from it."""
