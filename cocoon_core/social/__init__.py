"""What people do in a group, built only on documents and the replica: the feed and its threads."""
