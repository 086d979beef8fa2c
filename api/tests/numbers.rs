//! The compatibility with Istio's peers, as data: the name, number and type of every field of every message. Peers of
//! any version hold these numbers, so a line here changes only by addition.

use std::fmt::Write as _;
use std::path::Path;

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto};

const FIELDS: &str = include_str!("fields.txt");

#[test]
fn names_and_numbers_are_those_peers_know() {
    let mut found = String::new();
    let protos = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let files = ["workload", "authorization", "zds", "ca", "core", "status", "discovery"];
    for file in files {
        let set =
            protox::compile([protos.join(format!("{file}.proto"))], [&protos]).expect("the protos compile");
        let file = set.file.last().expect("the file asked for is the last");
        file.message_type.iter().for_each(|message| describe(file.package(), message, &mut found));
        file.enum_type.iter().for_each(|values| describe_enum(file.package(), values, &mut found));
        for service in &file.service {
            for method in &service.method {
                let (name, from, to) = (method.name(), method.input_type(), method.output_type());
                line(&mut found, format_args!("/{}.{}/{name} {from} {to}", file.package(), service.name()));
            }
        }
    }
    for (at, (found, expected)) in found.lines().zip(FIELDS.lines()).enumerate() {
        assert_eq!(found, expected, "line {} of fields.txt", at + 1);
    }
    assert_eq!(found.lines().count(), FIELDS.lines().count(), "a message was added or is gone");
}

fn describe(scope: &str, message: &DescriptorProto, out: &mut String) {
    let name = format!("{scope}.{}", message.name());
    if message.options.as_ref().is_some_and(|options| options.map_entry()) {
        return;
    }
    let fields: String = message.field.iter().map(field).collect();
    line(out, format_args!("{name}{fields}"));
    message.nested_type.iter().for_each(|nested| describe(&name, nested, out));
    message.enum_type.iter().for_each(|values| describe_enum(&name, values, out));
}

fn field(field: &FieldDescriptorProto) -> String {
    let repeated = if field.label() == Label::Repeated { "*" } else { "" };
    let kind = match field.r#type() {
        Type::Message | Type::Enum => field.type_name().rsplit('.').next().unwrap_or_default().to_owned(),
        plain => format!("{plain:?}").to_lowercase(),
    };
    format!(" {}={}:{kind}{repeated}", field.name(), field.number())
}

fn describe_enum(scope: &str, values: &EnumDescriptorProto, out: &mut String) {
    let listed: String =
        values.value.iter().map(|value| format!(" {}={}", value.name(), value.number())).collect();
    line(out, format_args!("{scope}.{}{listed}", values.name()));
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("writing to a string");
}
