"""`make bench-relay`: the relay beside bare loops and beside what people would run instead."""
