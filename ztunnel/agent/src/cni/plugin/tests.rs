//! The plugin as a table: what the runtime asks, what it is told.

use std::collections::BTreeMap;

use super::*;

const ARGUMENTS: &str =
    "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=0a;K8S_POD_UID=u-1";

fn environment(command: &str, arguments: &str) -> BTreeMap<String, String> {
    let pairs = [
        ("CNI_COMMAND", command),
        ("CNI_CONTAINERID", "0a"),
        ("CNI_NETNS", "/proc/self/ns/net"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_ARGS", arguments),
    ];
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

fn result() -> Value {
    json!({
        "cniVersion": "1.0.0", "interfaces": [{"name": "eth0"}],
        "ips": [{"address": "10.244.1.5/24", "interface": 0}, {"address": "fd00::5/64"}, {"address": "nonsense"}],
    })
}

fn config(edit: impl FnOnce(&mut Value)) -> Value {
    let mut config = json!({
        "cniVersion": "1.0.0", "name": "pods", "type": NAME, "prevResult": result(),
        "socket": "/nonexistent/cni.sock", "exemptNamespaces": ["kube-system"], "whenAway": "refuse", "waitSeconds": 30,
    });
    edit(&mut config);
    config
}

fn call(command: &str, arguments: &str, config: &Value) -> (Option<Value>, Result<(), PluginError>) {
    run(&environment(command, arguments), &serde_json::to_vec(config).unwrap())
}

#[test]
fn the_runtime_is_told_the_versions() {
    let printed = call("VERSION", "", &json!({"cniVersion": "0.4.0"})).0.unwrap();
    assert_eq!(printed, json!({"cniVersion": "0.4.0", "supportedVersions": VERSIONS}));
}

#[test]
fn what_needs_no_agent_is_passed_on() {
    let exempt = "K8S_POD_NAMESPACE=kube-system;K8S_POD_NAME=dns";
    let rows = [
        ("ADD", exempt, Some(result())),
        ("ADD", "no=pod", Some(result())),
        ("DEL", exempt, None),
        ("CHECK", exempt, None),
        ("STATUS", "", None),
        ("GC", "", None),
        // Nobody listens, and nobody minds.
        ("DEL", ARGUMENTS, None),
    ];
    for (command, arguments, expected) in rows {
        let (printed, outcome) = call(command, arguments, &config(|_| {}));
        assert_eq!((printed, outcome), (expected, Ok(())), "{command} {arguments}");
    }
}

#[test]
fn what_cannot_be_done_is_said_with_a_code() {
    let without =
        |field: &'static str| config(move |config| drop(config.as_object_mut().unwrap().remove(field)));
    let rows = [
        ("ADD", without("prevResult"), 7),
        ("ADD", without("socket"), 6),
        ("ADD", config(|config| config["cniVersion"] = "0.2.0".into()), 1),
        ("SHOUT", config(|_| {}), 4),
        // The agent is away.
        ("ADD", config(|_| {}), 11),
        ("CHECK", config(|_| {}), 11),
    ];
    for (command, config, code) in rows {
        let (printed, outcome) = call(command, ARGUMENTS, &config);
        assert!(outcome.is_err(), "{command} {config}");
        let printed = printed.unwrap();
        assert_eq!(printed["code"], code, "{printed}");
        assert_eq!(printed["cniVersion"], config["cniVersion"]);
    }
    let without_network = |command: &str, netns: Option<&str>| {
        let mut lost = environment(command, ARGUMENTS);
        lost.remove("CNI_NETNS");
        lost.extend(netns.map(|path| ("CNI_NETNS".to_owned(), path.to_owned())));
        run(&lost, &serde_json::to_vec(&config(|_| {})).unwrap()).0.map(|printed| printed["code"].clone())
    };
    assert_eq!(without_network("ADD", None), Some(json!(4)));
    assert_eq!(without_network("ADD", Some("/nonexistent")), Some(json!(5)));
    assert_eq!(without_network("DEL", Some("/nonexistent")), None, "it is gone already");
    assert_eq!(without_network("DEL", None), None);
    assert_eq!(run(&environment("ADD", ARGUMENTS), b"{").0.unwrap()["code"], 6);
}

#[test]
fn while_the_agent_is_away_pods_start_only_where_that_is_allowed() {
    let allow = config(|config| config["whenAway"] = "allow".into());
    assert_eq!(call("ADD", ARGUMENTS, &config(|_| {})).1.map_err(|error| error.code()), Err(11));
    let read = |config: &Value| serde_json::from_value::<Config>(config.clone()).unwrap();
    let away = || Err("nobody listens".to_owned());
    assert_eq!(judge(&read(&allow), Verb::Add, away()), Ok(Some(result())));
    assert_eq!(judge(&read(&allow), Verb::Check, away()), Ok(None));
    // It is there, and says no.
    let not_yet = || Ok(Answer::NotYet("no ztunnel".to_owned()));
    assert_eq!(judge(&read(&allow), Verb::Add, not_yet()), Err(PluginError::NotYet("no ztunnel".to_owned())));
}

#[test]
fn the_agents_answer_decides() {
    let config: Config = serde_json::from_value(config(|_| {})).unwrap();
    let not_yet = || Ok(Answer::NotYet("no ztunnel".to_owned()));
    let rows = [
        (Verb::Add, Ok(Answer::Outside), Ok(Some(result()))),
        (Verb::Add, Ok(Answer::Done), Ok(Some(result()))),
        (Verb::Add, not_yet(), Err(11)),
        (Verb::Add, Ok(Answer::Refused("older".to_owned())), Err(11)),
        (Verb::Check, Ok(Answer::Done), Ok(None)),
        (Verb::Check, not_yet(), Err(11)),
        (Verb::Del, not_yet(), Ok(None)),
        (Verb::Del, Err("away".to_owned()), Ok(None)),
    ];
    for (verb, answered, expected) in rows {
        let text = format!("{verb:?} {answered:?}");
        assert_eq!(judge(&config, verb, answered).map_err(|error| error.code()), expected, "{text}");
    }
}

#[test]
fn the_agent_is_told_who_the_pod_is() {
    let config: Config = serde_json::from_value(config(|_| {})).unwrap();
    let call = Call::read(&environment("ADD", ARGUMENTS)).unwrap();
    let expected = Request {
        version: VERSION,
        verb: Verb::Add,
        namespace: "shop".to_owned(),
        name: "web".to_owned(),
        uid: Some("u-1".to_owned()),
        addresses: vec!["10.244.1.5".parse().unwrap(), "fd00::5".parse().unwrap()],
    };
    assert_eq!(step(&call, &config), Ok(Step::Ask(expected)));
}
