//! What a container runs: its own command, or the stand-in for a well-known sample image. Pure.

use serde_json::Value;

use crate::manifest::text;

/// A container's program on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// The mesh's own waypoint, with the mesh's settings.
    Waypoint,
    /// A program of the machine.
    Host(Vec<String>),
    /// One of ours, and the ports on which it listens once it is ready.
    StandIn {
        /// Name of the stand-in and its arguments.
        arguments: Vec<String>,
        /// Listening ports.
        ports: Vec<u16>,
    },
}

/// The program for a container, or what is wrong with it and how to mend it.
pub(crate) fn program(pod: &str, container: &Value) -> Result<Program, String> {
    let name = text(container, &["name"]).unwrap_or("?");
    let image = text(container, &["image"]).unwrap_or("");
    let (command, arguments) = (list(container, "command"), list(container, "args"));
    if is_waypoint(image) {
        return Ok(Program::Waypoint);
    }
    if !command.is_empty() {
        return Ok(Program::Host([command, arguments].concat()));
    }
    let cannot = |mend: &str| format!("pod {pod}, container {name}, image {image:?}: {mend}");
    match repository(image) {
        "http-echo" => Ok(http_echo(arguments)),
        "echo" if arguments.first().is_some_and(|word| word == "load") => {
            Ok(Program::StandIn { arguments, ports: Vec::new() })
        }
        "echo" | "echo-basic" | "echo-advanced" => Ok(echo(container, arguments)),
        "curl" if !arguments.is_empty() => Ok(Program::Host([vec!["curl".to_owned()], arguments].concat())),
        "busybox" | "alpine" if !arguments.is_empty() => Ok(Program::Host(arguments)),
        "curl" | "busybox" | "alpine" => Err(cannot(
            "it would end at once; give it something to run, as in command: [\"sleep\", \"infinity\"]",
        )),
        _ => Err(cannot(
            "the lab runs no images; give the container a command of this machine, or use hashicorp/http-echo or ambit/echo, which the lab stands in for",
        )),
    }
}

/// Whether this is the image that controllers of the mesh put into a Gateway's Deployment.
pub(crate) fn is_waypoint(image: &str) -> bool {
    repository(image) == "waypoint" && image.rsplit('/').nth(1) == Some("ambit")
}

/// Last part of an image's name, without registry, tag and digest.
fn repository(image: &str) -> &str {
    let untagged = image.split('@').next().unwrap_or(image);
    let last = untagged.rsplit('/').next().unwrap_or(untagged);
    last.split(':').next().unwrap_or(last)
}

fn list(container: &Value, field: &str) -> Vec<String> {
    let words = container.get(field).and_then(Value::as_array);
    words.into_iter().flatten().filter_map(|word| word.as_str().map(str::to_owned)).collect()
}

fn http_echo(arguments: Vec<String>) -> Program {
    let port =
        flag(&arguments, "listen").and_then(|value| value.rsplit(':').next()?.parse().ok()).unwrap_or(5678);
    Program::StandIn { arguments: [vec!["http-echo".to_owned()], arguments].concat(), ports: vec![port] }
}

/// The echo server listens where its flags say, else where the conformance images' environment says.
fn echo(container: &Value, mut arguments: Vec<String>) -> Program {
    let environment = container.get("env").and_then(Value::as_array).into_iter().flatten();
    let port = environment
        .filter(|entry| matches!(text(entry, &["name"]), Some("PORT" | "HTTP_PORT")))
        .find_map(|entry| text(entry, &["value"])?.parse::<u16>().ok());
    let basic = text(container, &["image"]).is_some_and(|image| repository(image) == "echo-basic");
    if flag(&arguments, "port").is_none() {
        let port = port.unwrap_or(if basic { 3000 } else { 8080 });
        arguments.push(format!("--port={port}"));
    }
    let ports = ["port", "tcp", "banner", "sink"]
        .iter()
        .flat_map(|name| flags(&arguments, name))
        .filter_map(|port| port.parse().ok());
    let ports = ports.collect();
    Program::StandIn { arguments: [vec!["echo".to_owned()], arguments].concat(), ports }
}

/// Value of a flag written with one or two dashes, with `=` or as the next word.
pub(crate) fn flag<'a>(arguments: &'a [String], name: &str) -> Option<&'a str> {
    flags(arguments, name).into_iter().next()
}

/// Every value of a flag that may be repeated.
pub(crate) fn flags<'a>(arguments: &'a [String], name: &str) -> Vec<&'a str> {
    let mut found = Vec::new();
    for (index, word) in arguments.iter().enumerate() {
        let Some(word) = word.strip_prefix('-') else { continue };
        match word.trim_start_matches('-').split_once('=') {
            Some((key, value)) if key == name => found.push(value),
            None if word.trim_start_matches('-') == name => {
                found.extend(arguments.get(index + 1).map(String::as_str))
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{Program, program};
    use serde_json::json;

    fn stand_in(arguments: &[&str], ports: &[u16]) -> Program {
        let arguments = arguments.iter().map(|word| (*word).to_owned()).collect();
        Program::StandIn { arguments, ports: ports.to_vec() }
    }

    #[test]
    fn images_become_programs() {
        let host = |words: &[&str]| Program::Host(words.iter().map(|word| (*word).to_owned()).collect());
        let cases = [
            (
                json!({"image": "hashicorp/http-echo:1.0", "args": ["-text=hi"]}),
                stand_in(&["http-echo", "-text=hi"], &[5678]),
            ),
            (
                json!({"image": "docker.io/hashicorp/http-echo", "args": ["-listen", ":81"]}),
                stand_in(&["http-echo", "-listen", ":81"], &[81]),
            ),
            (json!({"image": "ambit/echo"}), stand_in(&["echo", "--port=8080"], &[8080])),
            (
                json!({"image": "ambit/echo:1", "args": ["--port=80", "--tcp=90"]}),
                stand_in(&["echo", "--port=80", "--tcp=90"], &[80, 90]),
            ),
            (
                json!({"image": "ambit/echo:1", "args": ["load", "--url=http://web/"]}),
                stand_in(&["load", "--url=http://web/"], &[]),
            ),
            (
                json!({"image": "gcr.io/k8s/gateway-api/echo-basic:v1"}),
                stand_in(&["echo", "--port=3000"], &[3000]),
            ),
            (json!({"image": "curlimages/curl", "command": ["sleep"], "args": ["9"]}), host(&["sleep", "9"])),
            (json!({"image": "ghcr.io/ambit/waypoint:0.1", "command": ["waypoint"]}), Program::Waypoint),
            (json!({"image": "nginx", "command": ["nc", "-l"]}), host(&["nc", "-l"])),
        ];
        for (container, expected) in cases {
            assert_eq!(program("ns/p", &container), Ok(expected), "{container}");
        }
    }

    #[test]
    fn an_unknown_image_is_named_with_its_pod_and_container() {
        for image in ["nginx:1.27", "curlimages/curl", "evil/http-echo2"] {
            let error = program("shop/web", &json!({"name": "c1", "image": image})).unwrap_err();
            assert!(error.contains("shop/web") && error.contains("c1") && error.contains(image), "{error}");
        }
    }
}
