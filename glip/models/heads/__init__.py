"""The switchable heads of GLIPv2, one file a head."""
