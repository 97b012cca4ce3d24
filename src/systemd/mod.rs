//! What rkt asks of systemd: the bus, and the one typed writer of units.

pub mod bus;
pub mod private;
pub mod unit;
pub mod unit_name;
