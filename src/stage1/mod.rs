//! stage1: what runs inside a pod, as values made by pure functions, and its launch.
