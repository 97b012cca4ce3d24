//! What rkt asks of systemd: the bus, and the one typed writer of units.
