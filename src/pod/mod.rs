//! The life of a pod on disk: phases, locks, moves, what others may observe.
