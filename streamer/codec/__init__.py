"""Arrow record batches to protobuf messages and back, a column at a time.

Pure: no grpc, no files, no clocks. Import what you need from the modules:
`encode` (record batch -> Frames), `decode` (messages -> record batch),
`frames` (length-prefixed messages), `wire_format` (protobuf's encoding rules).
"""
