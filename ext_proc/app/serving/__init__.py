"""The processes of a running gateway: supervisor, fork server, workers, shipper, and what they do beside."""
