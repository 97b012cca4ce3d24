//! Building images: the state and the steps of acbuild.
