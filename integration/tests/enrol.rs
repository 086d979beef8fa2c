//! Labels enrol and un-enrol running pods.

fn main() {}
