"""What one exchange needs of more than one room: the ports of the driver, joined. A worker has one of each."""
