//! The tables against the readers: they know the same fields, of the same types.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use proptest::prelude::*;
use regex::Regex;
use serde_json::{Value, json};

use super::*;
use crate::document::{self, Piece};
use crate::fault::Fault;
use crate::kind::Standing;
use crate::meta::Order;
use crate::read::{self, Outcome, Place};
use crate::value;

/// A name and a value that nothing is called.
const UNKNOWN: &str = "zqzqzqzqzqzqzqzq";

/// A way into an object.
#[derive(Clone, Copy)]
enum Step {
    Key(&'static str),
    FirstItem,
    AnyKey,
}

/// A place of a kind's objects.
#[derive(Clone)]
struct Spot {
    kind: Kind,
    steps: Vec<Step>,
}

impl Spot {
    fn below(&self, step: Step) -> Self {
        let mut spot = self.clone();
        spot.steps.push(step);
        spot
    }

    /// The path as faults have it.
    fn path(&self) -> String {
        self.steps.iter().fold("spec".to_owned(), |path, step| match step {
            Step::Key(name) => format!("{path}.{name}"),
            Step::FirstItem => format!("{path}[0]"),
            Step::AnyKey => format!("{path}.any"),
        })
    }

    /// What the reader finds wrong with an object that holds this value here.
    fn fault(&self, value: Value) -> Option<Fault> {
        let mut spec = self.steps.iter().rev().fold(value, |value, step| match step {
            Step::Key(name) => json!({ (*name): value }),
            Step::FirstItem => json!([value]),
            Step::AnyKey => json!({ "any": value }),
        });
        self.surround(&mut spec);
        let version = format!("{}/{}", self.kind.group(), self.kind.versions()[0]);
        let whole = json!({
            "apiVersion": version, "kind": self.kind.name(), "metadata": { "name": "probe" }, "spec": spec,
        });
        let place = Place { file: "probe".into(), order: Order::default() };
        let items = read::read(Piece { text: &whole.to_string(), line: 1 }, &place);
        let [item] = items.as_slice() else { panic!("one object: {items:?}") };
        match &item.outcome {
            Outcome::Valid(_) => None,
            Outcome::Bad(invalid) => Some(invalid.fault.clone()),
            other => panic!("{}: {other:?}", self.path()),
        }
    }

    /// Adds what must stand beside the way to this place, so that it is the only thing that can be wrong.
    fn surround(&self, spec: &mut Value) {
        let port = json!({ "number": 1 });
        let beside = [
            ("", "host", json!("web")),
            ("/subsets/0", "name", json!("v1")),
            ("/trafficPolicy/portLevelSettings/0", "port", port.clone()),
            ("/subsets/0/trafficPolicy/portLevelSettings/0", "port", port),
        ];
        let on_the_way = |pointer: &str| pointer.matches('/').count() < self.steps.len();
        for (pointer, name, value) in beside {
            if self.kind == Kind::DestinationRule
                && on_the_way(pointer)
                && let Some(Value::Object(above)) = spec.pointer_mut(pointer)
            {
                above.entry(name).or_insert(value);
            }
        }
    }

    /// The fault, if it is about this very place.
    fn own_fault(&self, value: Value) -> Option<Fault> {
        self.fault(value).filter(|fault| fault.field.as_deref() == Some(&self.path()))
    }
}

/// Visits every object and every value of a table.
fn walk(spot: &Spot, shape: &Shape, visit: &mut impl FnMut(&Spot, &Shape)) {
    visit(spot, shape);
    match shape {
        Shape::Object(fields) => {
            for field in *fields {
                walk(&spot.below(Step::Key(field.name)), &field.shape, visit);
            }
        }
        Shape::List(of, _) => walk(&spot.below(Step::FirstItem), of, visit),
        Shape::Map(of) => walk(&spot.below(Step::AnyKey), of, visit),
        _ => {}
    }
}

/// Visits the tables of all kinds that have a reader.
fn walk_all(mut visit: impl FnMut(&Spot, &Shape)) {
    let obeyed = DEFINITIONS.iter().filter(|one| one.kind.standing() == Standing::Enforced);
    let mut count = 0;
    for definition in obeyed {
        walk(&Spot { kind: definition.kind, steps: Vec::new() }, &Shape::Object(definition.spec), &mut visit);
        count += 1;
    }
    assert!(
        count >= 4,
        "VirtualService, DestinationRule, AuthorizationPolicy and PeerAuthentication are read"
    );
}

fn set(words: impl IntoIterator<Item = impl Into<String>>) -> BTreeSet<String> {
    words.into_iter().map(Into::into).collect()
}

/// The words of a mend that lists what is known.
fn listed(fault: &Fault, before: &str) -> BTreeSet<String> {
    let list = fault.mend.strip_prefix(before);
    set(list.unwrap_or_else(|| panic!("{fault}: the mend lists nothing")).split(", "))
}

#[test]
fn readers_and_tables_know_the_same_fields() {
    walk_all(|spot, shape| {
        let Shape::Object(fields) = shape else { return };
        let fault = spot.fault(json!({ (UNKNOWN): 1 }));
        let fault = fault.unwrap_or_else(|| panic!("{}: an unknown field is taken", spot.path()));
        assert_eq!(fault.field, Some(format!("{}.{UNKNOWN}", spot.path())), "{fault}");
        assert_eq!(
            listed(&fault, "known here: "),
            set(fields.iter().map(|field| field.name)),
            "{}",
            spot.path()
        );
    });
}

#[test]
fn readers_and_tables_know_the_same_choices() {
    walk_all(|spot, shape| {
        let Shape::Choice(of) = shape else { return };
        let fault = spot.own_fault(UNKNOWN.into());
        let fault = fault.unwrap_or_else(|| panic!("{}: any text is taken", spot.path()));
        assert_eq!(listed(&fault, "write one of "), set(of.iter().copied()), "{}", spot.path());
    });
}

#[test]
fn readers_and_tables_want_the_same_types() {
    let samples = [json!("x"), json!(1), json!(1.5), json!(true), json!([]), json!({})];
    walk_all(|spot, shape| {
        for sample in &samples {
            let fits = match shape {
                Shape::Text | Shape::Choice(_) | Shape::Duration => sample.is_string(),
                Shape::Whole(..) => sample.is_u64(),
                Shape::Number(_) => sample.is_number(),
                Shape::Flag => sample.is_boolean(),
                Shape::Object(_) | Shape::Map(_) | Shape::Opaque => sample.is_object(),
                Shape::List(..) => sample.is_array(),
            };
            let wrong =
                spot.own_fault(sample.clone()).filter(|fault| fault.message.starts_with("wrong type"));
            assert_eq!(wrong.is_none(), fits, "{} = {sample}: {wrong:?}", spot.path());
        }
    });
}

/// The least value that a field's type asks for.
fn least(shape: &Shape) -> Value {
    match shape {
        Shape::Text => "x".into(),
        Shape::Choice(of) => of[0].into(),
        Shape::Duration => "1s".into(),
        Shape::Whole(least, _) => (*least).max(1).into(),
        Shape::Number(_) => 1.into(),
        Shape::Flag => true.into(),
        Shape::List(..) => json!([]),
        Shape::Map(_) | Shape::Opaque => json!({}),
        Shape::Object(fields) => required(fields, None),
    }
}

/// An object with the fields that must be there, but for one.
fn required(fields: &[Field], left_out: Option<&str>) -> Value {
    let kept = fields.iter().filter(|field| field.required && Some(field.name) != left_out);
    kept.map(|field| (field.name.to_owned(), least(&field.shape))).collect::<serde_json::Map<_, _>>().into()
}

#[test]
fn what_must_be_there_for_the_table_must_be_there_for_the_reader() {
    walk_all(|spot, shape| {
        let Shape::Object(fields) = shape else { return };
        for field in fields.iter().filter(|field| field.required) {
            let fault = spot.fault(required(fields, Some(field.name)));
            let fault = fault.unwrap_or_else(|| panic!("{} is taken without {}", spot.path(), field.name));
            let about = fault.field.clone().unwrap_or_default();
            assert!(about.starts_with(&spot.path()), "{} without {}: {fault}", spot.path(), field.name);
        }
        let missing = spot.own_fault(required(fields, None));
        let missing = missing.filter(|fault| fault.message.ends_with("is missing"));
        assert_eq!(missing, None, "the table does not ask for it");
    });
}

#[test]
fn numbers_are_bounded_as_the_reader_bounds_them() {
    walk_all(|spot, shape| {
        let Shape::Whole(least, most) = shape else { return };
        for outside in [least.checked_sub(1), most.checked_add(1)].into_iter().flatten() {
            assert!(spot.fault(outside.into()).is_some(), "{} = {outside} is taken", spot.path());
        }
    });
}

proptest! {
    #[test]
    fn durations_are_what_the_reader_takes(text in "([0-9.]{0,4}(ns|us|µs|ms|s|m|h|x)?){0,3}") {
        static PATTERN: LazyLock<Regex> = LazyLock::new(|| Regex::new(openapi::DURATION).unwrap());
        prop_assert_eq!(PATTERN.is_match(&text), value::parse_duration(&text).is_some(), "{}", text);
    }
}

#[test]
fn a_field_stands_once_and_says_what_it_means() {
    for definition in DEFINITIONS {
        let spot = Spot { kind: definition.kind, steps: Vec::new() };
        walk(&spot, &Shape::Object(definition.spec), &mut |spot, shape| {
            let Shape::Object(fields) = shape else { return };
            let names = set(fields.iter().map(|field| field.name));
            assert_eq!(names.len(), fields.len(), "{}", spot.path());
            for field in *fields {
                assert!(field.doc.ends_with('.'), "{}.{}", spot.path(), field.name);
            }
        });
    }
    let known = document::suggest(UNKNOWN, DEFINITIONS.iter().map(|one| one.plural));
    assert_eq!(known, None, "the unknown name resembles nothing");
}
