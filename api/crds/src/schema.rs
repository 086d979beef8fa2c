//! What the objects of Istio's APIs may look like, field by field: the one source of the CustomResourceDefinitions.
//!
//! A table per kind, in the order a person would explain it. The readers of the kinds that Ambit obeys know the same fields:
//! a test compares them with these tables, both ways.

mod authorization;
mod destination_rule;
mod envoy;
mod gateway;
mod openapi;
mod service_entry;
mod shared;
mod sidecar;
mod telemetry;
mod virtual_service;

use crate::kind::Kind;

pub use openapi::manifest;

/// One kind and its table.
#[derive(Debug)]
pub struct Definition {
    /// The kind. Its versions all have the same schema; the first of them is the one that is stored.
    pub kind: Kind,
    /// The kind's name in URLs.
    pub plural: &'static str,
    /// Short names for `kubectl`.
    pub short: &'static [&'static str],
    /// What an object of this kind is for.
    pub doc: &'static str,
    /// The fields of `spec`.
    pub spec: &'static [Field],
    /// Whether an object without `spec` says nothing.
    pub needs_spec: bool,
    /// What `kubectl get` shows besides name, verdict and age.
    pub columns: &'static [Column],
}

/// A column of `kubectl get`.
#[derive(Debug)]
pub struct Column {
    /// Its heading.
    pub name: &'static str,
    /// Where its text stands in the object, as a JSON path.
    pub path: &'static str,
}

/// One field of an object.
#[derive(Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it may hold.
    pub shape: Shape,
    /// What it means.
    pub doc: &'static str,
    /// Whether it must be there.
    pub required: bool,
}

/// What a value may be.
#[derive(Debug)]
pub enum Shape {
    /// A text.
    Text,
    /// One of these texts.
    Choice(&'static [&'static str]),
    /// A duration such as `1h30m`, `10s` or `500ms`.
    Duration,
    /// A whole number from the first to the second; the largest there is means no limit.
    Whole(i64, i64),
    /// A number from 0, with a fraction, up to the limit if there is one.
    Number(Option<u32>),
    /// True or false.
    Flag,
    /// An object with these fields and no others.
    Object(&'static [Field]),
    /// A list of at most so many.
    List(&'static Shape, Option<u32>),
    /// An object with any keys.
    Map(&'static Shape),
    /// An object that is not looked into.
    Opaque,
}

/// A number of things.
const COUNT: Shape = Shape::Whole(0, u32::MAX as i64);

/// Every kind that Ambit brings a CustomResourceDefinition for. Gateway API brings its own.
pub const DEFINITIONS: [&Definition; 13] = [
    &virtual_service::DEFINITION,
    &destination_rule::DEFINITION,
    &gateway::DEFINITION,
    &service_entry::SERVICE_ENTRY,
    &service_entry::WORKLOAD_ENTRY,
    &service_entry::WORKLOAD_GROUP,
    &sidecar::DEFINITION,
    &envoy::ENVOY_FILTER,
    &envoy::PROXY_CONFIG,
    &authorization::AUTHORIZATION_POLICY,
    &authorization::PEER_AUTHENTICATION,
    &authorization::REQUEST_AUTHENTICATION,
    &telemetry::DEFINITION,
];

impl Field {
    /// A field of any shape.
    pub const fn new(name: &'static str, shape: Shape, doc: &'static str) -> Self {
        Self { name, shape, doc, required: false }
    }

    /// The field, which must be there.
    pub const fn required(self) -> Self {
        Self { required: true, ..self }
    }

    const fn text(name: &'static str, doc: &'static str) -> Self {
        Self::new(name, Shape::Text, doc)
    }

    const fn texts(name: &'static str, doc: &'static str) -> Self {
        Self::new(name, Shape::List(&Shape::Text, None), doc)
    }

    const fn flag(name: &'static str, doc: &'static str) -> Self {
        Self::new(name, Shape::Flag, doc)
    }

    const fn count(name: &'static str, doc: &'static str) -> Self {
        Self::new(name, COUNT, doc)
    }

    const fn size(name: &'static str, doc: &'static str) -> Self {
        Self::new(name, Shape::Whole(0, i64::MAX), doc)
    }

    const fn port(name: &'static str, doc: &'static str) -> Self {
        Self::new(name, Shape::Whole(1, 65_535), doc)
    }

    const fn duration(name: &'static str, doc: &'static str) -> Self {
        Self::new(name, Shape::Duration, doc)
    }

    const fn choice(name: &'static str, of: &'static [&'static str], doc: &'static str) -> Self {
        Self::new(name, Shape::Choice(of), doc)
    }

    const fn object(name: &'static str, fields: &'static [Self], doc: &'static str) -> Self {
        Self::new(name, Shape::Object(fields), doc)
    }

    const fn list(name: &'static str, of: &'static Shape, doc: &'static str) -> Self {
        Self::new(name, Shape::List(of, None), doc)
    }

    const fn map(name: &'static str, of: &'static Shape, doc: &'static str) -> Self {
        Self::new(name, Shape::Map(of), doc)
    }

    const fn labels(name: &'static str, doc: &'static str) -> Self {
        Self::new(name, Shape::Map(&Shape::Text), doc)
    }
}

#[cfg(test)]
mod tests;
