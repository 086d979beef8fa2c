//! What is wrong with one beyond the shape of its fields.

use super::HttpRouteSpec;
use crate::check::{Check, Wrong};

impl Check for HttpRouteSpec {
    fn check(&self) -> Result<(), Wrong> {
        Ok(())
    }
}
